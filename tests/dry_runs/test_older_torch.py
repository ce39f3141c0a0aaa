"""Torch 2.7 lacks functions of later versions; and choices between kernels are counted."""

import json
import os
import subprocess
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.dry_runs import autotuning, compiled
from harness.dry_runs.allocator_log import MOST_EVENTS, AllocatorLog
from harness.dry_runs.compiled import Compilations
from harness.prediction.torch_environments import InstallError, python_of


def test_a_version_that_cannot_clear_a_history_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[str | None, int]] = []

    def record(
        enabled: str | None, context: Any = 0, stacks: Any = 0, max_entries: int = 0
    ) -> None:
        begun.append((enabled, max_entries))

    monkeypatch.setattr(torch.cuda.memory, "_record_memory_history", record)
    monkeypatch.setattr(torch._C, "_cuda_record_memory_history", None, raising=False)
    AllocatorLog(1, lambda: None, lambda device: (device, 0))
    assert begun == [(None, 0), ("all", MOST_EVENTS)]


def test_a_compilation_of_which_nothing_is_said_is_timed() -> None:
    said: list[str] = []
    compilations = Compilations(said.append, {})
    compilations._on_start()
    compilations._on_end()
    assert compilations._seconds > 0
    assert said == []


def test_choices_that_are_made_later_are_in_the_counter_that_was_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiled, "after_import", lambda *_: None)
    choices = Counter[str]()
    watched = compiled.watch(lambda _: None, choices)
    choices["mm: ATen of 2 kernels"] += 1
    assert watched._unmeasured == {"mm: ATen of 2 kernels": 1}


class Kernel:
    """Inductor's class of Triton kernels in torch 2.8, which has a static method."""

    @staticmethod
    def inductor_meta_common() -> dict[str, object]:
        return {"max_autotune": True, "name": "static"}

    def benchmark_codegened_module(self) -> None:
        """Time nothing."""


class LaterKernel(Kernel):
    """The class in later versions, which has a class method."""

    @classmethod
    def inductor_meta_common(cls) -> dict[str, object]:
        return {"max_autotune": True, "name": cls.__name__}


@pytest.mark.parametrize(("kind", "name"), [(Kernel, "static"), (LaterKernel, "Below")])
def test_settings_of_a_kernel_are_changed_in_a_static_and_in_a_class_method(
    kind: type[Kernel], name: str
) -> None:
    changed = type("Changed", (kind,), {**vars(kind)})
    autotuning._triton_codegen(SimpleNamespace(TritonKernel=changed, TritonScheduling=changed))
    below: Any = type("Below", (changed,), {})
    expected = dict.fromkeys(autotuning._TUNED, False) | {"harness_tuned": True, "name": name}
    assert below.inductor_meta_common() == below().inductor_meta_common() == expected


@pytest.mark.parametrize("names", [["should_pad"], ["should_pad", "is_padded_faster"]])
def test_decisions_to_pad_are_counted_under_the_name_of_each_version(
    monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    counted = Counter[str]()
    monkeypatch.setattr(autotuning, "UNMEASURED", counted)
    module = SimpleNamespace(**dict.fromkeys(names, lambda key, before, after: before > after))
    autotuning._pad_mm(module)
    assert getattr(module, names[-1])("key", 1.0, 2.0) is False
    assert counted == {"pad_mm: matmul not padded": 1}


def test_a_function_that_a_version_lacks_is_told_in_words_about_the_kernels() -> None:
    said: list[str] = []
    for change in (autotuning._pad_mm, autotuning._triton_codegen):
        module: Any = SimpleNamespace(
            __name__="torch._inductor.x", TritonKernel=type("Empty", (), {})
        )
        autotuning._change(change, said.append, module)
    begin = "torch.compile may choose other kernels than a GPU would: torch._inductor.x: "
    assert len(said) == 2
    assert all(one.startswith(begin) for one in said)


COMPILES = """
import torch
from torch import nn
layers = nn.Sequential(nn.Linear(500, 1024), nn.GELU(), nn.Linear(1024, 1023), nn.Linear(1023, 10))
step = torch.compile(layers.cuda(), mode="max-autotune")
for _ in range(2):
    step(torch.randn(256, 500, device="cuda")).sum().backward()
    layers.zero_grad()
"""


@pytest.mark.usefixtures("cuda_build")
@pytest.mark.parametrize("version", ["2.8", "2.9"])
def test_choices_of_kernels_under_an_older_torch_are_all_made_here(
    tmp_path: Path, version: str
) -> None:
    try:
        python = python_of(version, offline=True)
    except InstallError as error:
        pytest.skip(str(error))
    (tmp_path / "train.py").write_text(COMPILES)
    line = [python, "-m", "harness.cli.entry", "dry-run", "--gpu", "h100-80gb", "--json"]
    ended = subprocess.run(
        [*line, "--", "train.py"], capture_output=True, text=True, cwd=tmp_path, check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "may choose other kernels" not in ended.stderr
    chosen = json.loads(ended.stdout.splitlines()[-1])["compiled"]["unmeasured"]
    assert {text.partition(":")[0] for text in chosen} >= {
        "pad_mm", "addmm", "block sizes of a Triton kernel",
    }  # fmt: skip
