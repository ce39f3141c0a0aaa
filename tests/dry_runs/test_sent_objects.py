"""Functions and their arguments in the process of a dry run."""

import pickle
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from harness.dry_runs.run import dry_run
from harness.dry_runs.sent_without_values import sent_without_values
from harness.processes.sent_objects import sent
from harness.schema.errors import StepError

SCRIPT = """
import torch
def train(flags, times):
    return [len(flags[flags].cuda()) * times, Wide(3).width]
class Wide:
    def __init__(self, width):
        self.width = width
raise SystemExit("this line is not run again")
"""
NETWORK = """
from pathlib import Path
def make():
    class Network:
        folder = Path("data")
        def forward(self, x: Path) -> Path: ...
    return Network()
"""


@pytest.mark.usefixtures("cuda_build")
def test_a_function_of_a_script_is_sent_with_its_code_and_the_values_of_its_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    main = ModuleType("__main__")
    with pytest.raises(SystemExit):
        exec(SCRIPT, main.__dict__)
    main.__file__ = str(tmp_path / "gone.py")
    monkeypatch.setitem(sys.modules, "__main__", main)
    flags = torch.arange(2 << 20) % 2 == 0  # a large tensor, whose values decide a size
    report = dry_run(main.train, flags, gpu="l4", times=3, quiet=True)
    assert report.outcome == "ok", report.evidence
    assert report.returned == [3 << 20, 3]


def test_what_cannot_be_sent_is_refused_by_its_name() -> None:
    with pytest.raises(StepError, match="arguments cannot be sent to the worker: cannot pickle"):
        sent({"function": print, "arguments": (threading.Lock(),)})


def test_a_function_of_a_script_in_a_spawned_process_is_sent_with_its_code_and_annotations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such a script is the module ``__mp_main__``, which no worker can import."""
    main = ModuleType("__mp_main__")
    monkeypatch.setitem(sys.modules, "__mp_main__", main)
    exec(NETWORK, main.__dict__)
    both = [send({"function": main.make}) for send in (sent, sent_without_values)]
    monkeypatch.delitem(sys.modules, "__mp_main__")
    for data in both:
        made = pickle.loads(data)["function"]()
        assert made.forward.__annotations__["x"] is Path
        assert made.folder == Path("data")
