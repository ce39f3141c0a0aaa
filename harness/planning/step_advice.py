"""Adds advice to the messages of errors of the user's network."""

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
    """Add advice to an error in the block, if there is any."""
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
    """Return the message of an error with advice, if there is any."""
    wrong = re.search(r"Unrecognized key '([^']+)' in Accelerator allocator config", message)
    if wrong is not None:
        return f"--alloc-conf: there is no {wrong[1]!r}; write NAME:VALUE, as in PYTORCH_ALLOC_CONF"
    module = (request.target or "").replace(".py:", ":").replace("/", ".").lstrip(".")
    known = (text for words, text in _ADVICE.items() if re.search(words, message))
    advice = next(known, None)
    return message if advice is None else f"{message}; {advice.format(module=module)}"
