"""Closed forms of the bytes that the scripts print, with the bytes that a framework adds.

Each reading has the bytes that follow from shapes, and named bytes that the framework adds. The
sizes are from ``examples/frameworks``.
"""

from collections.abc import Mapping
from typing import NamedTuple

WEIGHT = 2048 * 2048
"""Number of elements of a layer in the scripts that train a perceptron."""
TABLE = 4 * 256
"""Bytes of bitsandbytes' table of the values of 8-bit codes."""


class ClosedForm(NamedTuple):
    """The bytes of a reading, from a formula and from named additions."""

    formula: str
    bytes: int
    added: Mapping[str, int] = {}
    """Bytes that the formula leaves out, by name."""

    @property
    def total(self) -> int:
        """Return the bytes of the formula and of the additions."""
        return self.bytes + sum(self.added.values())


def nf4(elements: int) -> int:
    """Return the bytes of a matrix in NF4, with a float32 scale for each block of 64."""
    return elements // 2 + 4 * elements // 64


def nf4_twice(elements: int) -> int:
    """Return the bytes of a matrix in NF4 with 8-bit scales and a float32 scale per 256 scales."""
    return elements // 2 + elements // 64 + 4 * elements // (64 * 256)


_NORMS = (2 * 4 + 1) * 512
_ATTENTION, _PERCEPTRON = 512 * 512, 512 * 1408
_EMBEDDINGS = 2 * 8192 * 512
_LLAMA = _EMBEDDINGS + 4 * (4 * _ATTENTION + 3 * _PERCEPTRON) + _NORMS
_INVERSE_FREQUENCIES = {"two copies of the frequencies of the rotary embedding": 2 * 4 * 32}
_ADAPTERS = 4 * 2 * 8 * (512 + 512)
_TRAINED = 8 * WEIGHT
_FLAG = {"a flag for overflow": 4}
_ZERO = ClosedForm("(2 + 12 / 4 ranks) B per parameter", 2 * _TRAINED + 12 * _TRAINED // 4, _FLAG)
_BUCKET = {"DeepSpeed's buffer for gradients (500,000,000 elements of bfloat16)": 1_000_000_000}

CLOSED_FORMS: Mapping[str, Mapping[str, ClosedForm]] = {
    "bitsandbytes_nf4.py": {
        "weights in NF4": ClosedForm(
            "0.5 B per element, 4 B per block of 64 elements",
            8 * nf4(WEIGHT),
            {"16 values of NF4 for each layer": 8 * 64},
        )
    },
    "bitsandbytes_adam.py": {
        "states": ClosedForm(
            "2 x 1 B per parameter, 2 x 4 B per block of 256 parameters",
            4 * 2 * (WEIGHT + 4 * WEIGHT // 256),
            {"a table for each of the two moments": 2 * TABLE},
        ),
        "states in paged memory": ClosedForm("none", 0),
    },
    "bitsandbytes_adam.py paged": {
        "states": ClosedForm("none", 0),
        "states in paged memory": ClosedForm("8 B per parameter", 4 * 8 * WEIGHT),
    },
    "torchao_int4.py": {
        "weights in bfloat16": ClosedForm("2 B per element", 8 * 2 * WEIGHT),
        "weights in int4": ClosedForm(
            "0.5 B per element, 2 x 2 B per group of 128 elements",
            8 * (WEIGHT // 2 + 4 * WEIGHT // 128),
        ),
    },
    "torchao_float8.py": {
        "kept for the backward pass, with the output": ClosedForm(
            "1 B per element of each input, 2 B per element of the output",
            8 * 8192 * 2048 + 2 * 8192 * 2048,
            {"17 scalars, for example a scale for each input and weight": 17 * 4},
        )
    },
    "peft_lora.py": {
        "weights": ClosedForm("2 B per parameter", 2 * _LLAMA, _INVERSE_FREQUENCIES),
        "adapters": ClosedForm("4 B per parameter", 4 * _ADAPTERS),
        "states": ClosedForm("8 B per parameter", 8 * _ADAPTERS),
    },
    "peft_lora.py qlora": {
        "weights": ClosedForm(
            "in 4 bits: 0.5 B per element, 1 B per block of 64, 4 B per 256 blocks; else 2 B each",
            2 * (_EMBEDDINGS + _NORMS)
            + 4 * (4 * nf4_twice(_ATTENTION) + 3 * nf4_twice(_PERCEPTRON)),
            _INVERSE_FREQUENCIES
            | {
                "16 values, a table and a mean for each of 28 matrices": 28 * (64 + TABLE + 4),
                "bitsandbytes' own copy of the table": TABLE,
            },
        ),
        "adapters": ClosedForm("4 B per parameter", 4 * _ADAPTERS),
        "states": ClosedForm("8 B per parameter", 8 * _ADAPTERS),
    },
    "accelerate_fsdp.py": {
        f"weights and states of rank {rank}": ClosedForm(
            "12 B per parameter / 2 ranks", 12 * _TRAINED // 2
        )
        for rank in (0, 1)
    },
    "deepspeed_zero.py 1": {"weights and states": _ZERO},
    "deepspeed_zero.py 2": {"weights and states": _ZERO},
    "deepspeed_zero.py 2 offload": {
        "weights and states": ClosedForm(
            "2 B per parameter",
            2 * _TRAINED,
            {"a buffer for gradients, as large as the largest parameter": 2 * WEIGHT},
        )
    },
    "deepspeed_zero.py 3": {
        "weights and states": ClosedForm(
            "(2 + 12) B per parameter / 4 ranks",
            14 * _TRAINED // 4,
            _BUCKET | {"gradients of the rank's share": 2 * _TRAINED // 4, "scalars": 13},
        )
    },
    "deepspeed_zero.py 3 offload": {
        "weights and states": ClosedForm(
            "2 B per parameter / 4 ranks", 2 * _TRAINED // 4, _BUCKET | _FLAG
        )
    },
}
"""Closed forms by script with arguments, and by the script's name for the reading."""
