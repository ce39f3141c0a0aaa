"""The first code of a child process: ``python -m harness...start_child PARENT MODULE [ARGUMENT]``.

It ties the process to its parent before torch is loaded, which takes seconds in which the
parent may end; then it is that module's ``main``.
"""

import importlib
import os
import sys

from harness.measurement.process.guards import die_with_parent


def command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs ``module`` as a child of this process."""
    return [sys.executable, "-m", __spec__.name, str(os.getpid()), module, *arguments]


def main() -> int:
    """Be the module's process."""
    parent, module, *arguments = sys.argv[1:]
    die_with_parent(int(parent))
    sys.argv = [module, *arguments]
    code: int = importlib.import_module(module).main()
    return code


if __name__ == "__main__":
    sys.exit(main())
