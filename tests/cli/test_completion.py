"""Shells complete the names that the harness knows, and see nothing else."""

import pytest

from harness.cli.app import main


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("harness predict --gpu a100", ["plain,a100-40gb", "plain,a100-80gb"]),
        ("harness predict --gpu al", ["plain,all"]),
        ("harness plan x:y --gpu L", ["plain,l4", "plain,l40s", "plain,l20"]),
        ("harness sweep depth_", ["plain,depth_batch"]),
        ("harness sweep my_experim", ["file,my_experim"]),
    ],
)
def test_names_are_completed_and_a_path_where_no_experiment_has_the_name(
    line: str, names: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_HARNESS_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    with pytest.raises(SystemExit) as ended:
        main([])
    seen = capsys.readouterr()
    assert ended.value.code == 0
    assert seen.out.split() == names
    assert seen.err == ""
