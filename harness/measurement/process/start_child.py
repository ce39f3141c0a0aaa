"""The first code of a child process: ``start_child PARENT MODULE [ARGUMENT]``.

It ties the process to its parent before torch is loaded, which takes seconds in which the
parent may end; then it is that module's ``main``.
"""

import importlib
import os
import sys

from harness.measurement.process.guards import die_with_parent
from harness.measurement.process.own_interpreter import own_interpreter


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
