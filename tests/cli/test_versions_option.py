"""``harness dry-run --versions``: what it prints of the answers of several versions."""

import json
from typing import Any

import pytest

from harness.planning import bisect_versions
from harness.planning.bisect_versions import VersionAnswer
from tests.commands import Ask


@pytest.mark.parametrize(
    ("sizes", "code", "verdict"),
    [((7, 7), 0, "equal"), ((7, 8), 3, "different"), ((None, 7), 3, "different"),
     ((None, None), 3, None), ((7,), 0, "ok"), ((None,), 3, None)],
)  # fmt: skip
def test_its_json_begins_as_that_of_every_command(
    sizes: tuple[int | None, ...], code: int, verdict: str | None, ask: Ask,
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
    versions = ",".join(["2.10", "2.15"][: len(sizes)])
    line = ["dry-run", "--versions", versions, "--json", "--", "train.py"]
    answer = json.loads(ask(line, code).out)
    assert (answer["command"], answer["verdict"], answer["error"]) == ("dry-run", verdict, None)
    shown = [one["peaks_bytes"].get("reserved") for one in answer["versions"]]
    assert shown == list(sizes)


def test_the_run_of_each_version_is_the_one_that_was_typed(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[list[str], tuple[str, ...]]] = []

    def answers(versions: list[str], arguments: tuple[str, ...], **_: Any) -> list[VersionAnswer]:
        asked.append((versions, arguments))
        return [
            VersionAnswer(torch=torch, outcome="ok", peaks_bytes={"a": 1}) for torch in versions
        ]

    monkeypatch.setattr(bisect_versions, "ask_versions", answers)
    script = ["--", "train.py", "--json", "--versions", "9"]
    ask(["dry-run", "--gpu", "l4", "--versions", "2.8-2.10", "--offline", "--steps", "3", *script])
    assert asked == [(["2.8", "2.9", "2.10"], ("--gpu", "l4", "--steps", "3", *script))]


@pytest.mark.parametrize("text", ["2.10-2.8", "2.5,2.15", "two", "2.9-"])
def test_other_lists_are_refused_in_one_line(text: str, ask: Ask) -> None:
    assert ask(["dry-run", "--versions", text, "train.py"], 2).err.count("\n") == 1


def test_one_version_is_not_compared(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    peaks: dict[str, int | None] = {"reserved": 7 << 20}
    answer = VersionAnswer(torch="2.8", outcome="ok", peaks_bytes=peaks)
    monkeypatch.setattr(bisect_versions, "ask_versions", lambda *_, **__: [answer])
    shown = ask(["dry-run", "--versions", "2.8", "train.py"]).out
    assert "7 MiB" in shown
    assert "differs" not in shown
