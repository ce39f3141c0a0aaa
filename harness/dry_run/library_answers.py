"""Known places in libraries that ask the GPU a question whose usual answer is known.

Only a question whose true value cannot be followed is answered from here, and the report says so.
"""

from typing import Final

_USUAL: Final = {
    ("transformers/masking_utils.py", "find_packed_sequence_indices"): (
        1.0,
        "sequences are not packed",
    ),
    ("transformers/masking_utils.py", "fast_all"): (1.0, "nothing is padded"),
    ("transformers/masking_utils.py", "_ignore_causal_mask_sdpa"): (1.0, "nothing is padded"),
    ("transformers/masking_utils.py", "_ignore_bidirectional_mask_sdpa"): (
        1.0,
        "nothing is padded",
    ),
}


def library_answer(file: str, function: str) -> tuple[float | None, str | None]:
    """Return the usual answer in a function of a library and what it means; None elsewhere."""
    for (name, asking), (answer, meaning) in _USUAL.items():
        if function == asking and file.endswith("/" + name):
            return answer, meaning
    return None, None
