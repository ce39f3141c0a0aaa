"""A function as it is sent to another process: pickled, with the script that defines it."""

import ast
import pickle
import sys
from pathlib import Path

from harness.dry_run.dry_run_request import DryRunError


def pickled(function: object) -> tuple[bytes, str | None]:
    """Return a function (with its arguments) as a pickle, and the script that it needs.

    The other process imports that script, as ``multiprocessing`` does.

    Raises:
        DryRunError: it cannot be sent; the message says why.

    """
    try:
        data = pickle.dumps(function)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise DryRunError(f"a function cannot be sent to another process: {error}") from None
    return data, _own_script() if b"__main__" in data else None


def _own_script() -> str:
    """Return the script that this process runs."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    if file is None or not Path(file).is_file():
        raise DryRunError("a function must be defined in a file, not in an interactive session")
    if not _is_guarded(Path(file)):
        raise DryRunError(
            f'{Path(file).name} must run its code under `if __name__ == "__main__":`, because the '
            "dry run imports the file"
        )
    return str(file)


def _is_guarded(script: Path) -> bool:
    """Return whether a script has an ``if __name__`` guard, so that importing it is safe."""
    try:
        body = ast.parse(script.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return False
    return any(
        isinstance(name, ast.Name) and name.id == "__name__"
        for statement in body
        if isinstance(statement, ast.If)
        for name in ast.walk(statement.test)
    )
