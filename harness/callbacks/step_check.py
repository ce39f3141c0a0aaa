"""The memory of a trainer's step: predicted before its first one, compared after its second."""

import copy
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from inspect import signature
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from harness.dry_runs.sent_objects import LARGE_BYTES
from harness.instruments.rss import resident_rise
from harness.measurement.environment import pretended_device
from harness.measurement.limits.machine_memory import available
from harness.planning.predict_step import predict_step
from harness.prediction.gpu.catalogue import Gpu, GpuError, find
from harness.schema.step import Step
from harness.schema.step_report import StepReport
from harness.schema.units import format_bytes

STEPS = 2
"""The optimizer's state is made at the end of the first step, so the second shows the peak."""
PROCESS_BYTES = 64 << 20
"""What Python and libraries may take on the CPU in the first steps, in addition to tensors."""


class StepCheck:
    """Predicts the memory of a trainer's step, and warns if the step takes another amount.

    On a GPU it compares peaks of the allocated bytes. On the CPU it compares the rise of the
    process's resident memory, so it allows 64 MiB more. An error here is one line, and the
    training goes on. In a dry run it does nothing, because that is the answer.

    Args:
        tolerance: difference from the prediction that is worth a warning, e.g. 0.1 for 10%.
        tell: called with each line; it prints to standard error if left out.

    Attributes:
        predicted: the prediction; None before the first step, and where there is none.
        expected_bytes: the part of it that is compared.
        measured_bytes: the same of the first two steps; None until they are done.
    """

    def __init__(self, tolerance: float = 0.1, tell: Callable[[str], object] | None = None) -> None:
        self.predicted: StepReport | None = None
        self.expected_bytes = 0
        self.measured_bytes: int | None = None
        self._tolerance = tolerance
        self._tell = tell or (lambda line: print(f"harness: {line}", file=sys.stderr))
        self._is_asked = False
        self._steps = 0
        self._measuring = ExitStack()

    def ask(
        self,
        model: nn.Module,
        inputs: Any,
        optimizer: torch.optim.Optimizer,
        *,
        autocast: str | None = None,
        accumulate: int = 1,
    ) -> None:
        """Predict the step of a model that returns its loss, once; begin to measure."""
        if self._is_asked or pretended_device() is not None:
            return
        self._is_asked = True
        with self._never_raises("asked"):
            tensors = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
            device = next(model.parameters()).device
            x = tree_map_only(Tensor, lambda tensor: tensor.cpu(), inputs)
            step = Step(
                _on_the_host(model),
                accumulate * next((len(one) for one in tensors if one.dim()), 1),
                inputs=lambda rows: (x, None),  # noqa: ARG005  # a trainer's batch is not cut
                optimizer=_same_kind(optimizer, model),
                loss="model",
                autocast=autocast,
                accumulate=accumulate,
            )
            gpu = _gpu(device) if device.type == "cuda" else None
            with torch.random.fork_rng(devices=[]):  # the trainer's random numbers stay the same
                report = predict_step(step, device=device.type, gpu=gpu)
            self._begin(report, gpu, [*model.parameters(), *model.buffers(), *tensors])

    def do_not_ask(self, why: str, *, ranks: int, is_first: bool) -> None:
        """Say once, in the first rank, why there is no prediction and what to type for one.

        Args:
            why: what there is that cannot be asked.
            ranks: processes of the training.
            is_first: whether this process is the first of them.
        """
        if is_first and not self._is_asked and pretended_device() is None:
            self._tell(f"the memory of the step is not asked: {why}; type {_dry_run(ranks)}")
        self._is_asked = True

    def _begin(self, report: StepReport, gpu: Gpu | None, present: Iterable[Tensor]) -> None:
        if gpu is not None:
            self.expected_bytes = (report.cuda and report.cuda.allocated_peak_bytes) or 0
            self._tell(
                f"predicted peak {format_bytes(self.expected_bytes)} allocated; {report.fit}"
            )
            torch.cuda.reset_peak_memory_stats()
        else:
            peak = report.peak_live_bytes or 0
            storages = {one.untyped_storage().data_ptr(): one.nbytes for one in present}
            self.expected_bytes = peak - sum(storages.values())
            room = available().bytes
            word = "fits" if self.expected_bytes <= room else "does not fit"
            self._tell(
                f"predicted peak {format_bytes(peak)} of tensors on the CPU, of which"
                f" {format_bytes(self.expected_bytes)} are to come; {word}:"
                f" {format_bytes(room)} are available"
            )
            self._rise = self._measuring.enter_context(resident_rise())
        self.predicted = report

    def after_step(self) -> None:
        """Compare after the second optimizer step."""
        self._steps += 1
        if self.predicted is None or self._steps != STEPS:
            return
        with self._never_raises("compared"):
            on_cpu = self.predicted.cuda is None
            self._measuring.close()
            measured = self._rise.rise_bytes if on_cpu else torch.cuda.max_memory_allocated()
            self.measured_bytes = measured
            what = "RSS rise of the process" if on_cpu else "peak of the allocated bytes"
            apart = measured - self.expected_bytes
            line = (
                f"{what} in {STEPS} steps: {format_bytes(max(0, measured))}, predicted"
                f" {format_bytes(self.expected_bytes)} ({apart / max(1, self.expected_bytes):+.1%})"
            )
            allowed = self._tolerance * self.expected_bytes + PROCESS_BYTES * on_cpu
            far = f"warning: more than {self._tolerance:.0%} apart: " * (abs(apart) > allowed)
            self._tell(far + line)

    @contextmanager
    def _never_raises(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._measuring.close()
            self.predicted = None
            said = " ".join(str(error).split())[:300]
            self._tell(f"the memory of the step is not {what}: {type(error).__name__}: {said}")


def _dry_run(ranks: int) -> str:
    """Return the command that runs this script, as one of its ranks, on a pretended GPU."""
    main = getattr(sys.modules["__main__"], "__spec__", None)
    script = ["--", sys.argv[0]] if main is None else ["-m", main.name, "--"]
    size = ["--world-size", str(ranks)] if ranks > 1 else []
    words = ["harness", "dry-run", *_named_gpu(), *size, "--steps", str(STEPS), *script]
    return shlex.join([*words, *sys.argv[1:]])


def _named_gpu() -> list[str]:
    if not torch.cuda.is_available():
        return []
    seen = _gpu(torch.device("cuda"))
    try:
        return ["--gpu", find(seen.name).name]
    except GpuError:
        capability = ".".join(map(str, seen.capability))
        return ["--capability", capability, "--memory", f"{seen.total_bytes}B"]


def _gpu(device: torch.device) -> Gpu:
    seen = torch.cuda.get_device_properties(device)
    return Gpu(
        name=seen.name,
        capability=(seen.major, seen.minor),
        multiprocessors=seen.multi_processor_count,
        threads_per_multiprocessor=seen.max_threads_per_multi_processor,
        total_bytes=seen.total_memory,
    )


def _on_the_host(model: nn.Module) -> nn.Module:
    """Return a copy on the CPU, without the values of large parameters and accelerate's casts."""
    memo: dict[int, Any] = {}
    for one in chain(model.parameters(), model.buffers()):
        is_large = isinstance(one, nn.Parameter) and one.nbytes >= LARGE_BYTES
        host = (
            torch.empty_like(one, device="cpu") if is_large else one.detach().to("cpu", copy=True)
        )
        memo[id(one)] = (
            nn.Parameter(host, one.requires_grad) if isinstance(one, nn.Parameter) else host
        )
    made = copy.deepcopy(model, memo)
    for name in ("forward", "_original_forward"):
        made.__dict__.pop(name, None)
    return made


def _same_kind(
    optimizer: torch.optim.Optimizer, model: nn.Module
) -> Callable[[Iterable[Tensor]], torch.optim.Optimizer]:
    """Return a function that makes such an optimizer, with its groups, of the same parameters."""
    place = {id(one): at for at, one in enumerate(p for p in model.parameters() if p.requires_grad)}
    optimizer = getattr(optimizer, "optimizer", optimizer)  # accelerate's holds the user's
    kind, known = type(optimizer), signature(type(optimizer)).parameters
    defaults = {name: value for name, value in optimizer.defaults.items() if name in known}
    groups = [
        {**group, "params": [place[id(one)] for one in group["params"]]}
        for group in optimizer.param_groups
    ]

    def make(parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        every = list(parameters)
        own = [{**group, "params": [every[at] for at in group["params"]]} for group in groups]
        return kind(own, **defaults)

    return make
