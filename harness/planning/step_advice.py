"""Adds advice to the error messages of the user's network."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harness.schema.errors import HarnessError, StepError, UnsupportedError
from harness.schema.step_request import StepRequest

_ADVICE: Mapping[str, str] = tomllib.loads(
    Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
)


@contextmanager
def with_advice(request: StepRequest) -> Iterator[None]:
    """Add advice to errors inside the ``with`` block, if advice exists for the message."""
    try:
        yield
    except UnsupportedError:
        raise
    except HarnessError as error:
        message = advised(str(error), request)
        if message == str(error):
            raise
        raise StepError(message) from error


def advised(message: str, request: StepRequest) -> str:
    """Return the error message with added advice, if advice exists for the message."""
    wrong = re.search(r"Unrecognized key '([^']+)' in Accelerator allocator config", message)
    if wrong is not None:
        return f"--alloc-conf: there is no {wrong[1]!r}; write NAME:VALUE, as in PYTORCH_ALLOC_CONF"
    module = (request.target or "").replace(".py:", ":").replace("/", ".").lstrip(".")
    known = (text for words, text in _ADVICE.items() if re.search(words, message))
    advice = next(known, None)
    return message if advice is None else f"{message}; {advice.format(module=module)}"
