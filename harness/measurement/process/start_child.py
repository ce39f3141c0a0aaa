"""The first code of a child process: ``start_child PARENT MODULE [ARGUMENT]``.

It ties the process to its parent before torch is loaded, which takes seconds in which the
parent may end; then it is that module's ``main``.
"""

import importlib
import os
import sys
from pathlib import Path

from harness.measurement.process.guards import die_with_parent

_CODE = (
    "import importlib, importlib.util, sys;"
    " spec = importlib.util.spec_from_file_location('harness', sys.argv[1]);"
    " sys.modules['harness'] = package = importlib.util.module_from_spec(spec);"
    " spec.loader.exec_module(package);"
    " del sys.argv[:2];"
    " raise SystemExit(importlib.import_module(sys.argv[0]).main())"
)
"""With ``-P``, the path holds neither the current folder nor a script's. The package is loaded from
its file: another one of its name, or an older version, may be installed."""


def own_interpreter(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs the function ``main`` of a module of the harness."""
    package = Path(__file__).parents[2] / "__init__.py"
    return [sys.executable, "-P", "-c", _CODE, str(package), module, *arguments]


def command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs ``module`` as a child of this process."""
    return own_interpreter(__name__, str(os.getpid()), module, *arguments)


def main() -> int:
    """Be the module's process."""
    parent, module, *arguments = sys.argv[1:]
    die_with_parent(int(parent))
    sys.argv = [module, *arguments]
    code: int = importlib.import_module(module).main()
    return code
