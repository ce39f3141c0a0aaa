"""Runs a group's cases on a pretended GPU, and goes on after a case that crashes or hangs."""

import dataclasses
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import IO

import psutil

from benchmarks.computed_values.comparison import Result
from benchmarks.computed_values.journal import ROOT, Journal

SECONDS_OF_A_CASE = 180
MOST_BYTES = 8 << 30
"""Most host memory of a run; more means that a size was read from unwritten memory."""

RUNNER = "benchmarks.computed_values.run_cases"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """Share of a group's cases that one process at a time runs."""

    group: str
    part: int
    parts: int

    def command(self, journal: Journal) -> list[str]:
        """Return the dry run of the cases that the journal does not have yet."""
        samples, only = journal.origin.samples, journal.origin.only
        limit = [] if samples is None else ["--samples", str(samples)]
        return [
            *(sys.executable, "-m", "harness", "dry-run", "--gpu", "a100-40gb"),
            *("--compute", "all", "-m", RUNNER, "--"),
            *(self.group, "--part", str(self.part), "--parts", str(self.parts)),
            *("--journal", str(journal.path), "--only", only, *limit),
        ]


def run_part(part: Part, journal: Journal) -> Iterator[Result]:
    """Run and note all cases, and yield their results; a case that ends the process is an error."""
    while True:
        case = ""
        found: list[Result] = []
        with _Run(part.command(journal)) as run:
            for line in run.lines():
                if "case" in line:
                    case, found = str(line["case"]), []
                elif "result" in line:
                    found.append(Result(**line["result"]))  # type: ignore[arg-type]
                    yield found[-1]
                elif "ended" in line:
                    journal.add(part.group, case, found)
                    case = ""
                elif "done" in line:
                    return
            reason = run.reason()
        if not case:
            raise RuntimeError(f"{part.group}: the dry run ended between cases: {reason}")
        operator, _, dtype = case.rpartition(" torch.")
        ended = Result(
            kind="process", name=operator, dtype=dtype, samples=1, outcome="error", detail=reason
        )
        journal.add(part.group, case, [*found, ended])
        yield ended


class _Run:
    """A dry run whose lines are read as they come."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._reason = ""
        self.last_words = ""

    def __enter__(self) -> "_Run":
        return self

    def __exit__(self, *_: object) -> None:
        tree = _family(self._process.pid)
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for one in tree:
            if one.is_running():
                one.kill()

    def lines(self) -> Iterator[dict[str, object]]:
        """Yield the lines of JSON until the process ends, or its case takes too much."""
        assert self._process.stdout is not None
        stream: IO[bytes] = self._process.stdout
        os.set_blocking(stream.fileno(), False)
        began, rest = time.monotonic(), b""
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while True:
                data = stream.read() if selector.select(0.5) else None
                if data == b"":
                    return
                *lines, rest = (rest + (data or b"")).split(b"\n")
                for line in lines:
                    if line.startswith(b"{"):
                        began = time.monotonic()
                        yield json.loads(line)
                    elif line.strip():
                        self.last_words = line.decode(errors="replace")[:200]
                if time.monotonic() - began > SECONDS_OF_A_CASE:
                    self._reason = f"no end in {SECONDS_OF_A_CASE} s"
                    return
                if _resident(self._process.pid) > MOST_BYTES:
                    self._reason = f"takes more than {MOST_BYTES >> 30} GiB of the host"
                    return

    def reason(self) -> str:
        """Return why the process gave no more lines."""
        return self._reason or f"the process ended: {self.last_words}"


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _resident(pid: int) -> int:
    total = 0
    for process in _family(pid):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total
