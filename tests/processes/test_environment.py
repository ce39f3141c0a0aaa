"""The environment of a record: facts of the processor, compared with what PyTorch finds."""

import pytest
import torch

from harness.processes import environment


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"flags": "fpu amx_bf16 avx512f avx512_bf16 amx_tile"}, "amx_bf16 avx512_bf16"),
        ({"Features": "fp asimd i8mm bf16"}, "bf16"),
        ({"flags": "fpu avx512f avx512_fp16"}, "none"),
        ({}, "none"),
    ],
)
def test_a_record_names_the_bfloat16_instructions_of_its_processor(
    fields: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "_of_cpu", lambda name: fields.get(name, ""))
    assert environment._bfloat16_instructions() == expected


def test_pytorch_finds_the_same_instructions() -> None:
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    if supported is None:
        pytest.skip("this PyTorch does not tell the instructions of the processor")
    assert ("avx512_bf16" in environment._bfloat16_instructions().split()) == supported()
