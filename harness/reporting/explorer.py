"""The explorer: where the memory of a step goes as its sizes change, and what fits.

The page computes by itself, from tables of coefficients that ``prediction.mlp.polynomials``
reads off the functions of ``prediction``: no formula is written here a second time. It stands
in the report, and alone as a page of its own (``harness explore``).
"""

import json
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from harness.reporting.explorer_tables import ALIKE, Budget, budgets, data
from harness.reporting.templating import environment, template
from harness.schema.errors import HarnessError
from harness.schema.workload import Workload

TITLE = "What would this step need?"


@dataclass(frozen=True, kw_only=True)
class Slider:
    """A number to choose with a slider."""

    name: str
    label: str
    low: int
    high: int
    step: int
    value: int


@dataclass(frozen=True, kw_only=True)
class Explorer:
    """Values of the explorer's template."""

    sliders: tuple[Slider, ...]
    choices: dict[str, tuple[str, ...]]
    chosen: dict[str, str]
    budgets: dict[str, list[Budget]]
    budget: str
    base: Workload
    data: Markup
    script: Markup


class ExplorerError(HarnessError):
    """The page cannot be written."""


def explorer() -> Explorer:
    """Return the explorer's parts, for the report or for a page of its own."""
    return Explorer(
        sliders=(
            Slider(name="depth", label="Depth (layers)", low=1, high=64, step=1, value=8),
            Slider(name="width", label="Width (units)", low=8, high=4096, step=8, value=256),
            Slider(name="batch", label="Batch", low=8, high=8192, step=8, value=512),
        ),
        choices={
            name: tuple(value for group in groups for value in group)
            for name, groups in ALIKE.items()
        },
        chosen={"dtype": "float32", "optimizer": "sgd", "activation": "relu"},
        budgets=budgets(),
        budget="256 MiB",
        base=Workload(),
        data=_script(json.dumps(data(), separators=(",", ":"))),
        script=_script(template("explorer.js")),
    )


def write_explorer(path: Path) -> Path:
    """Write the explorer to ``path`` and return it: one file that needs no network.

    Raises:
        ExplorerError: ``path`` cannot be written.
    """
    try:
        path.write_text(render(), encoding="utf-8", newline="\n")
    except OSError as error:
        raise ExplorerError(f"{path}: {error.strerror}") from error
    return path


def render() -> str:
    """Return the page as HTML."""
    page = environment().get_template("explorer.html.j2")
    return page.render(title=TITLE, explorer=explorer()) + "\n"


def _script(text: str) -> Markup:
    """Return ``text`` for a script element, which only its own end tag could close."""
    return Markup(text.replace("</script", "<\\/script").replace("<!--", "<\\!--"))
