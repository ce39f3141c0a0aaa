"""``harness bisect``: what it prints of the answers of several versions."""

import json
from typing import Any

import pytest

from harness.cli.app import main
from harness.planning import bisect_versions
from harness.planning.bisect_versions import VersionAnswer


@pytest.mark.parametrize(("second", "code", "verdict"), [(7, 0, "equal"), (8, 3, "different")])
def test_its_json_begins_as_that_of_every_command(
    second: int,
    code: int,
    verdict: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def answers(versions: list[str], *_: Any, **__: Any) -> list[VersionAnswer]:
        sizes = (7, second)
        return [
            VersionAnswer(torch=version, outcome="ok", peaks_bytes={"reserved": size})
            for version, size in zip(versions, sizes, strict=True)
        ]

    monkeypatch.setattr(bisect_versions, "ask_versions", answers)
    line = ["bisect", "--torch", "2.10", "--torch", "2.15", "--json", "--", "train.py"]
    assert main(line) == code
    answer = json.loads(capsys.readouterr().out)
    assert (answer["command"], answer["verdict"], answer["error"]) == ("bisect", verdict, None)
    assert [one["peaks_bytes"] for one in answer["versions"]] == [
        {"reserved": 7},
        {"reserved": second},
    ]
