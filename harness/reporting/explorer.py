"""A page to play with: where the memory of a step goes as its sizes change, and what fits.

The page computes by itself, from tables of coefficients that ``prediction.polynomials`` reads
off the functions of ``prediction``: no formula is written here a second time.
"""

import json
from importlib import resources
from pathlib import Path

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from harness.reporting.explorer_tables import needs_table, parts_table
from harness.schema.errors import HarnessError
from harness.schema.workload import Workload

TITLE = "What would this step need?"

NOTES = (
    (
        "The bars are whole storages: parameters, their gradients, the optimizer's state, the "
        "batch with its labels, and what autograd saves for the backward pass. Each is exact, to "
        "the byte."
    ),
    (
        "The bars are not all there at once. Gradients come in the backward pass while "
        "activations go, and temporaries come on top. The sentence above the bars gives the most "
        "bytes alive at any moment of the build and the first two steps."
    ),
    (
        "The line is the largest batch that fits into the budget at each depth, everything else "
        "as chosen; it is what harness predict says. The mark is the step that is chosen."
    ),
    (
        "All this is PyTorch's CPU allocator alone: libraries, the interpreter and the driver "
        "come on top. Products in bfloat16 may take scratch of oneDNN's too, which depends on the "
        "processor and is left out here."
    ),
)


class ExplorerError(HarnessError):
    """The page cannot be made here; the message says what to install."""


def write_explorer(path: Path) -> Path:
    """Write the explorer to ``path`` and return it: one file that needs no network.

    Raises:
        ExplorerError: the extra is not installed, or ``path`` cannot be written.

    """
    text = render()
    try:
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ExplorerError(f"{path}: {error.strerror}") from error
    return path


def render() -> str:
    """Return the page as HTML, its libraries inside.

    Raises:
        ExplorerError: the extra is not installed.

    """
    try:
        import vl_convert

        from harness.reporting.explorer_chart import chart
    except ImportError as error:
        rule = "install the extra: pip install 'mlp-memory-harness[explorer]'"
        raise ExplorerError(f"the explorer needs {error.name}; {rule}") from error
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # ast: expressions are interpreted, so that the page's policy can forbid eval.
    options = {
        "mode": "vega",
        "renderer": "svg",
        "actions": False,
        "ast": True,
        "bind": "#controls",
    }
    page = environment.get_template("explorer.html.j2").render(
        title=TITLE,
        base=Workload(),
        notes=NOTES,
        style=Markup(_template("report.css")),
        library=_script(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed")),
        chart=_script(json.dumps(chart(parts_table(), needs_table()))),
        options=_script(json.dumps(options)),
    )
    return page + "\n"


def _template(name: str) -> str:
    return (resources.files("harness.reporting") / "templates" / name).read_text(encoding="utf-8")


def _script(text: str) -> Markup:
    """Return ``text`` for a script element, which only its own end tag could close."""
    return Markup(text.replace("</script", "<\\/script").replace("<!--", "<\\!--"))
