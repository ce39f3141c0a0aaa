"""Configuration of the documentation site: ``make docs``."""

import logging
import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import harness  # noqa: E402

# The kernels of the notebooks warn about a connection that never leaves this machine.
KERNEL = ROOT / "build" / "ipython" / "profile_default" / "ipython_kernel_config.py"
KERNEL.parent.mkdir(parents=True, exist_ok=True)
KERNEL.write_text("c = get_config()  # noqa\nc.IPKernelApp.log_level = 40\n")
os.environ["IPYTHONDIR"] = str(KERNEL.parents[1])
logging.getLogger("traitlets").setLevel(logging.WARNING)  # "Executing notebook"

project = "mlp-memory-harness"
html_show_copyright = False
release = harness.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "SKILL.md"]
smartquotes = False  # an option in a sentence keeps its two hyphens
html_theme = "furo"
html_title = "MLP memory harness"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
# The run as a whole: the links of its report stay alive.
html_extra_path = ["llms.txt", "SKILL.md", "../results/reference-cpu"]

copybutton_prompt_text = "$ "

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Notebooks are executed on every build: a page that no longer runs fails the build.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes as one list

# make docs turns warnings into errors: a link to a page that does not exist fails the build.


def _literature(app, exception):
    """Put the report on the literature next to that of the reference run, which has its names."""
    if exception is None:
        report = Path(app.outdir) / "literature-report"
        shutil.copytree(ROOT / "results" / "literature", report, dirs_exist_ok=True)


def _no_fields(_app, what, name, *_):
    """Leave out the signature of a report: nobody but the harness makes one."""
    if what == "class" and name.endswith(("Report", "Plan", "Threshold", "Comparison", "Trace")):
        return "", None
    return None


def _examples(app, context, lines):
    """Show the examples of a command as blocks that can be copied."""
    del app
    examples = getattr(context.command, "examples", ())
    for line in [line for line in lines if line.startswith("Example: ")]:  # the group's own
        lines.remove(line)
        examples = (*examples, line.removeprefix("Example: "))
    if examples:
        commands = [f"    $ {example}" for example in examples]
        lines += ["", "Examples:", "", ".. code-block:: console", "", *commands, ""]


def setup(app):
    """Let Sphinx call them."""
    for function in (harness.predict, harness.plan, harness.measure, harness.threshold):
        vars(function).pop("__signature__", None)  # autodoc asks the source for its defaults
    app.connect("autodoc-process-signature", _no_fields)
    app.connect("build-finished", _literature)
    app.connect("sphinx-click-process-epilog", _examples)
