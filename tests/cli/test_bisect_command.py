"""``harness bisect``: what it prints of the answers of several versions."""

import json
from typing import Any

import pytest

from harness.planning import bisect_versions
from harness.planning.bisect_versions import VersionAnswer
from tests.commands import Ask


@pytest.mark.parametrize(
    ("sizes", "code", "verdict"),
    [((7, 7), 0, "equal"), ((7, 8), 3, "different"), ((None, 7), 3, "different"),
     ((None, None), 3, None)],
)  # fmt: skip
def test_its_json_begins_as_that_of_every_command(
    sizes: tuple[int | None, int | None], code: int, verdict: str | None, ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def answers(versions: list[str], *_: Any, **__: Any) -> list[VersionAnswer]:
        return [
            VersionAnswer(torch=torch, outcome="ok", peaks_bytes={"reserved": size})
            if size
            else VersionAnswer(torch=torch, outcome="error")
            for torch, size in zip(versions, sizes, strict=True)
        ]

    monkeypatch.setattr(bisect_versions, "ask_versions", answers)
    line = ["bisect", "--torch", "2.10", "--torch", "2.15", "--json", "--", "train.py"]
    answer = json.loads(ask(line, code).out)
    assert (answer["command"], answer["verdict"], answer["error"]) == ("bisect", verdict, None)
    shown = [one["peaks_bytes"].get("reserved") for one in answer["versions"]]
    assert shown == list(sizes)
