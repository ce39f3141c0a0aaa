"""``harness dry-run --outside-from``: what a log says of the GPU that it ran on."""

from pathlib import Path
from typing import Any

import pytest

from harness.cli.app import main
from harness.dry_runs import run

MESSAGE = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total "
    "capacity of 21.00 GiB of which 1.00 GiB is free. Of the allocated memory 18.00 GiB is "
    "allocated by PyTorch, and 0.50 GiB is reserved by PyTorch but unallocated."
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The bytes outside the allocator of each dry run that is begun; it goes no further."""
    bytes_of: list[int | None] = []

    def begun(*_: Any, outside_bytes: int | None = None, **__: Any) -> None:
        bytes_of.append(outside_bytes)
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "dry_run", begun)
    return bytes_of


def test_what_the_message_gives_to_nobody_is_outside(
    tmp_path: Path, asked: list[int | None]
) -> None:
    log = tmp_path / "train.log"
    log.write_text(f"epoch 1\n{MESSAGE}\n")
    main(["dry-run", "--outside-from", str(log), "train.py"])
    assert asked == [3 << 29]  # 21 - 1 - 18.5 GiB


@pytest.mark.parametrize(
    ("text", "more", "why"),
    [
        ("all is well", [], "no out-of-memory message"),
        ("kernel: Out of memory: Killed process 7 (python)", [], "no such numbers"),
        (MESSAGE, ["--outside", "1GiB"], "not both"),
    ],
)
def test_a_log_without_the_numbers_is_refused_in_one_line(
    text: str, more: list[str], why: str, tmp_path: Path, asked: list[int | None],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    log = tmp_path / "train.log"
    log.write_text(text)
    assert main(["dry-run", "--outside-from", str(log), *more, "train.py"]) == 2
    assert why in capsys.readouterr().err
    assert asked == []
