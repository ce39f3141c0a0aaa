"""A new interpreter that runs a module of this very harness, and no code of the current folder."""

import sys
from pathlib import Path

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
