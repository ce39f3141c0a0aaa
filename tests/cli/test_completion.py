"""Shells complete the names that the harness knows, and see nothing else."""

import pytest

from harness.cli.app import main


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("harness predict --gpu a100", ["a100-40gb", "a100-80gb"]),
        ("harness predict --gpu al", ["all"]),
        ("harness plan x:y --gpu L", ["l4", "l40s"]),
        ("harness sweep depth_", ["depth_batch"]),
    ],
)
def test_names_are_completed(
    line: str,
    names: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("_HARNESS_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    with pytest.raises(SystemExit) as ended:
        main([])
    seen = capsys.readouterr()
    assert ended.value.code == 0
    assert [item.partition(",")[2] for item in seen.out.split()] == names
    assert seen.err == ""


def test_a_path_is_completed_where_no_experiment_has_the_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_HARNESS_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "harness sweep my_experim")
    monkeypatch.setenv("COMP_CWORD", "2")
    with pytest.raises(SystemExit):
        main([])
    assert capsys.readouterr().out.strip() == "file,my_experim"
