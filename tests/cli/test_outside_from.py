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


@pytest.mark.parametrize(
    ("text", "more", "asked", "why"),
    [
        (f"epoch 1\n{MESSAGE}\n", [], [3 << 29], ""),  # 21 - 1 - 18.5 GiB
        ("all is well", [], [], "no out-of-memory message"),
        ("kernel: Out of memory: Killed process 7 (python)", [], [], "lacks the memory of PyTorch"),
        (MESSAGE, ["--outside", "1GiB"], [], "not both"),
    ],
)
def test_what_the_message_gives_to_nobody_is_outside_or_one_line_says_why_not(
    text: str, more: list[str], asked: list[int], why: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    begun: list[int] = []

    def begin(*_: Any, outside_bytes: int, **__: Any) -> None:
        begun.append(outside_bytes)
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "dry_run", begin)
    log = tmp_path / "train.log"
    log.write_text(text)
    code = main(["dry-run", "--outside-from", str(log), *more, "train.py"])
    assert (code == 2, begun) == (bool(why), asked)
    assert why in capsys.readouterr().err
