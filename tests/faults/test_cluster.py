"""Faults of a Dask cluster: workers killed, held and without files; a scheduler gone and back."""

import contextlib
import gc
import importlib.util
import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import psutil
import pytest

from harness.analysis.frame import lines_if_there
from harness.schema.errors import HarnessError
from harness.schema.record import Outcome, from_json
from harness.sweeps.executors import Executor, ExecutorError, make_executor
from harness.version import __version__
from tests.faults.conftest import full_only
from tests.faults.grid import FULL, Tally, records_path, sweep
from tests.faults.processes import count, dask_workers, settle, wait_for_records
from tests.known import known

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("distributed") is None,
        reason="distributed is not installed (the extra 'cluster')",
    ),
    pytest.mark.filterwarnings("ignore"),  # Dask's own, on losing a worker or a scheduler
    pytest.mark.timeout(900),
]
ALLOWED = "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Executor]:
    """A Dask cluster of two workers on this machine, soon tired of a silent one."""
    from harness.sweeps.executors import dask_cluster

    # The shortest that a scheduler keeps: ten heartbeats of half a second.
    monkeypatch.setitem(dask_cluster._SETTINGS, "distributed.scheduler.worker-ttl", "5s")
    with contextlib.closing(make_executor("dask", jobs=2)) as executor:
        yield executor


@contextlib.contextmanager
def meanwhile(act: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run ``act`` next to the block, and raise what it raised; its event says when it is over."""
    over = threading.Event()
    with ThreadPoolExecutor(1) as other:
        acting = other.submit(act, over)
        try:
            yield
        finally:
            over.set()
    acting.result()


def test_dask_worker_killed_again_and_again(
    cluster: Executor, tmp_path: Path, tally: Tally
) -> None:
    """Always the younger of two: from its first cell on, at any moment of the next second."""
    cells, least = (200, 20) if FULL else (8, 1)
    chance = random.Random(9)

    def killing(folder: Path) -> Callable[[threading.Event], None]:
        def act(over: threading.Event) -> None:
            wait_for_records(folder, 1)
            while not over.is_set() and (FULL or tally.injected < least):
                if len(workers := dask_workers()) == 2:
                    over.wait(chance.uniform(0, 1))
                    workers[1].kill()
                    tally.injected += 1
                over.wait(0.1)

        return act

    failed = 0
    while tally.injected < least:  # on a busy machine a worker takes seconds to be there again
        folder = tmp_path / f"after-{tally.injected}"
        with meanwhile(killing(folder)):
            sweep(folder, cells, cluster)
        settle(folder, cells, tally)
        records = lines_if_there(records_path(folder), from_json)
        failed += sum(record.outcome is Outcome.LOST for record in records)
    assert FULL <= failed <= tally.injected


@contextlib.contextmanager
def dask_command(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Run ``dask ...`` as an operator would; kill it and its children with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *arguments, "--no-dashboard"],
        env={ALLOWED: "0"} | os.environ,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        process.kill()
        process.wait()
        known(process.stderr).close()


@contextlib.contextmanager
def dask_scheduler(
    port: str = "0", protocol: str = "tcp"
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run a scheduler; yield it with its address."""
    host = f"{protocol}://127.0.0.1"
    with dask_command("scheduler", "--host", host, "--port", port) as process:
        said = iter(known(process.stderr))
        address = next(result for line in said if (result := re.search(rf"{host}:\d+", line)))
        yield process, address.group()


def sweep_at(address: str, folder: Path, cells: int) -> None:
    """Sweep on the cluster at ``address``."""
    with contextlib.closing(make_executor("dask", scheduler=address)) as executor:
        sweep(folder, cells, executor)


@full_only
def test_dask_scheduler_killed_and_started_anew(
    tmp_path: Path,
    tally: Tally,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sweep stops with a message each time, and goes on with the next scheduler."""
    from harness.sweeps.executors import dask_cluster

    monkeypatch.setattr(dask_cluster, "CONNECT_SECONDS", 5.0)
    cells, port = 20, "0"
    for _ in range(3):
        with dask_scheduler(port) as (scheduler, address), dask_command("worker", address):

            def act(_: threading.Event, kill: Callable[[], None] = scheduler.kill) -> None:
                wait_for_records(tmp_path, count(tmp_path) + 3)
                kill()

            with meanwhile(act), pytest.raises(ExecutorError, match="the same command goes on"):
                sweep_at(address, tmp_path, cells)
            tally.injected += 1
            port = address.rpartition(":")[2]
    with dask_scheduler(port) as (scheduler, address), dask_command("worker", address):
        sweep_at(address, tmp_path, cells)
    settle(tmp_path, cells, tally)


def test_a_scheduler_that_repeats_what_workers_lose_is_refused_with_the_way_to_mend_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(ALLOWED, "3")
    with dask_scheduler() as (_, address), pytest.raises(ExecutorError, match="ALLOWED_FAILURES=0"):
        make_executor("dask", scheduler=address)


def test_a_cluster_with_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally) -> None:
    """A client without a certificate, or without TLS, is refused in one line."""
    import dask
    import distributed

    pair = [tmp_path / "key.pem", tmp_path / "cert.pem"]
    made = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=x -keyout {pair[0]} -out {pair[1]}"
    subprocess.run(["openssl", *made.split()], check=True, capture_output=True)
    settings: dict[str, object] = {"require-encryption": True, "tls.ca-file": str(pair[1])}
    for role in ("client", "scheduler", "worker"):
        settings |= {f"tls.{role}.key": str(pair[0]), f"tls.{role}.cert": str(pair[1])}
    settings = {f"distributed.comm.{name}": value for name, value in settings.items()}
    for name, value in settings.items():
        monkeypatch.setenv(f"DASK_{name.upper().replace('.', '__').replace('-', '_')}", str(value))
    plain = "tcp://127.0.0.1:9"
    with dask_scheduler(protocol="tls") as (_, address), dask_command("worker", address):
        with pytest.raises(ExecutorError, match="ssl_context"):
            make_executor("dask", scheduler=address)
        # Dask ends a client when it is collected, which hangs if it happens in another's start.
        assert not any(isinstance(one, distributed.Client) for one in gc.get_objects())
        with dask.config.set(settings):
            with pytest.raises(ExecutorError, match="encryption required"):
                make_executor("dask", scheduler=plain)
            sweep_at(address, tmp_path / "run", 2)
    tally.injected += 3
    settle(tmp_path / "run", 2, tally)


def test_a_worker_with_another_version_is_refused_at_its_first_answer() -> None:
    from harness.sweeps.executors import dask_cluster
    from harness.sweeps.executors.dask_task import CellAnswer

    cell: Any = None
    for version, why in (("7.7.7", "w has harness 7.7.7, this is "), (__version__, "no images")):
        executor = object.__new__(dask_cluster.DaskExecutor)
        sent = dask_cluster._Sent(cell=cell, attempt=1)
        executor._sent = {"key": sent}
        said = msgspec.json.encode(CellAnswer(harness=version, worker="w", mistake="no images"))
        executor._ended("key", SimpleNamespace(result=lambda timeout, said=said: said))
        with pytest.raises(HarnessError, match=why):
            sent.future.result()
