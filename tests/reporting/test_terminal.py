"""Text of the commands where nobody looks at a terminal."""

import pytest

from harness.reporting.terminal import AnswerConsole

LONG = "model.layers.0-23.post_attention_layernorm (LlamaRMSNorm x24) " * 3


def test_a_name_is_whole_in_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    AnswerConsole().table(["layer", ">saved"], [[LONG, "8 KiB"], ["head", "64 KiB"]])
    _, first, second = capsys.readouterr().out.splitlines()
    assert first == f"{LONG}   8 KiB"
    assert second.split() == ["head", "64", "KiB"]
