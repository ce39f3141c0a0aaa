"""A pipe hears that work goes on, and how far it is."""

import re
import threading
import time

import pytest

from harness.reporting import heartbeat
from harness.reporting.heartbeat import BeforeForks, Heartbeat
from harness.reporting.progress import shown


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SECONDS", 0.05)


def until(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = ""
    while words not in said:
        time.sleep(0.01)
        said += capsys.readouterr().err
    assert re.fullmatch(r"(\[\d+ s\] [^\n]+\n)+", said)


def test_a_silent_block_prints_a_line_each_time_and_none_after_its_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Heartbeat("PyTorch starts") as beat:
        until("PyTorch starts", capsys)
        beat.words = "forward\x1b[2J"
        until("forward\\x1b[2J", capsys)
    capsys.readouterr()
    time.sleep(0.2)
    assert capsys.readouterr().err == ""


def test_a_sweep_says_how_many_cells_are_done(capsys: pytest.CaptureFixture[str]) -> None:
    with shown() as progress:
        progress.begin("depth_batch", cells=24, done=0, notes=[])
        capsys.readouterr()
        until("depth_batch: workers start", capsys)
        progress.cell("mlp 1 x 8: ok", left=17, seconds_left=65.0)
        until("depth_batch: 7 of 24 cells, 1 min 5 s left", capsys)


def test_the_thread_ends_before_others_are_forked_and_the_lines_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    threads = threading.active_count()
    with BeforeForks("sections: ", "the records are read") as lines:
        until("the records are read", capsys)
        lines.say("0 of 2")
        assert threading.active_count() == threads
        capsys.readouterr()
        time.sleep(0.06)
        lines.say("1 of 2")
        assert capsys.readouterr().err == "[0 s] sections: 1 of 2\n"
        lines.say("2 of 2")
        assert capsys.readouterr().err == ""
