"""Advice on errors of the user's network, after the words of the error."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from harness.schema.errors import HarnessError, StepError, UnsupportedError, did_you_mean
from harness.schema.step_request import StepRequest

_SETTINGS = (
    "expandable_segments",
    "garbage_collection_threshold",
    "large_segment_size_mb",
    "max_non_split_rounding_mb",
    "max_split_size_mb",
    "per_process_memory_fraction",
    "roundup_power2_divisions",
)
_ADVICE = {
    r"attempted relative import": "here {module}",
    r"missing a required argument": "if it is an object, write a function without arguments that "
    "returns the network",
    r"forward\(\) (got an unexpected keyword|missing \d+ required positional) argument": "--input "
    "NAME=SHAPE names an argument of forward; --inputs FILE.py:FUNCTION returns whatever it takes",
    r"huggingface\.co|Hugging Face Hub|outgoing traffic has been disabled": "build "
    "it without its weights: hf:NAME_OR_FOLDER, or AutoModel.from_config(config)",
    r"Cannot allocate memory|can't allocate memory": "this machine has not enough memory to build "
    "the network; build it with dtype=torch.bfloat16, e.g. from_config(config, dtype=...)",
    r"Cannot copy out of meta tensor": "build it without torch.device('meta'): on a pretended GPU"
    " the values of large parameters are never written",
}


@contextmanager
def with_advice(request: StepRequest) -> Iterator[None]:
    """Add to an error in the block what to do about it, where that is known."""
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
    """Return the message of an error, with what to do about it where that is known."""
    wrong = re.search(r"Unrecognized key '(\w+)' in Accelerator allocator config", message)
    if wrong is not None:
        return f"--alloc-conf: there is no {wrong[1]!r}{did_you_mean(wrong[1], _SETTINGS)}"
    module = (request.target or "").replace(".py:", ":").replace("/", ".").lstrip(".")
    known = (text for words, text in _ADVICE.items() if re.search(words, message))
    advice = next(known, None)
    return message if advice is None else f"{message}; {advice.format(module=module)}"
