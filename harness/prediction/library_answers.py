"""Usual answers to what libraries ask about values that nobody knows."""

import sys
from types import FrameType
from typing import Final

_ASKING: Final = {
    "find_packed_sequence_indices": "sequences are not packed",
    "fast_all": "nothing is padded",
    "_ignore_causal_mask_sdpa": "nothing is padded",
    "_ignore_bidirectional_mask_sdpa": "nothing is padded",
}
"""Functions of ``transformers/masking_utils.py`` that ask a question, and the meaning of its usual
answer, yes. It is given where the true one cannot be followed, and the report says so."""


def library_answer(file: str, function: str) -> tuple[float | None, str | None]:
    """Return the usual answer in a function of a library and what it means; None elsewhere."""
    if function in _ASKING and file.endswith("/transformers/masking_utils.py"):
        return 1.0, _ASKING[function]
    return None, None


def answer_of_caller() -> tuple[float | None, str | None]:
    """Return the usual answer in the nearest function of a library that asks; None elsewhere."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        answer, meaning = library_answer(frame.f_code.co_filename, frame.f_code.co_name)
        if answer is not None:
            return answer, meaning
        frame = frame.f_back
    return None, None
