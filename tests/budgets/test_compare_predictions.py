"""Two predictions compared by ``harness compare``."""

from pathlib import Path

import pytest

from harness.cli.app import main


def predicted(folder: Path, capsys: pytest.CaptureFixture[str], name: str, *flags: str) -> str:
    assert main(["predict", *flags, "--json"]) == 0
    path = folder / name
    path.write_text(capsys.readouterr().out)
    return str(path)


def test_two_predictions_of_a_model_differ_by_what_was_widened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--depth", "2", "--batch", "8")
    first = predicted(tmp_path, capsys, "first.json", *flags, "--width", "64")
    second = predicted(tmp_path, capsys, "second.json", *flags, "--width", "96")
    assert main(["compare", first, first]) == 0
    assert capsys.readouterr().out == "the two predictions are equal\n"
    assert main(["compare", first, second]) == 3
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    # One more ReLU output and one mask of 32 columns, 8 rows of 4 bytes: 1,024 B a layer.
    assert rows["modules.1.saved_bytes"].endswith("+1 KiB")
    assert "peak_live_bytes" in rows


def test_what_is_no_prediction_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.json"
    for text in ("", "[]", "{}", "{" * 10_000):
        path.write_text(text)
        assert main(["compare", str(path), str(path)]) == 2
        assert "is not a prediction that harness predict" in capsys.readouterr().err
    assert main(["compare", str(path), str(tmp_path)]) == 2
    assert "two folders or two files" in capsys.readouterr().err
