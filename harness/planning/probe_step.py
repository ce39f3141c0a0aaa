"""Predicts the largest batch within a memory budget, and checks the batch in new processes."""

import dataclasses
import time
from collections.abc import Mapping
from contextlib import closing, nullcontext
from typing import Any, Literal

import msgspec

from harness.dry_runs.sent_without_values import sent_without_values
from harness.planning.ask_worker import ended_question, error_of
from harness.planning.predict_step import predict_step
from harness.planning.pretended_workers import checked
from harness.planning.probe_question import LEAST_EXAMPLES, LargestByLiveBytes, ProbeStep
from harness.planning.sent_step import device_of, name_of, request_of
from harness.planning.step_advice import with_advice
from harness.planning.token_labels import with_labels
from harness.prediction.gpu.catalogue import OUTSIDE_BYTES, Gpu, gpu_of
from harness.prediction.largest_value import HIGHEST, line_meets
from harness.processes.environment import describe, has_gpu
from harness.processes.launcher import Launcher, default_launcher
from harness.processes.limits import machine_memory
from harness.processes.sent_objects import sent
from harness.schema.argument_checks import ArgumentError, check_bytes
from harness.schema.errors import StepError, UnsupportedError
from harness.schema.provenance import Environment
from harness.schema.record import Outcome
from harness.schema.step import Step
from harness.schema.step_request import StepRequest
from harness.schema.step_threshold import StepThreshold
from harness.schema.threshold import Enforcement, EnforcementChoice
from harness.schema.units import format_bytes
from harness.schema.workload import Workload
from harness.thresholds.enforcement import choose_kind, gpu_environment, size_of_budget
from harness.thresholds.probes import NeededEnd, Probes, found
from harness.thresholds.search import CONFIRMATIONS, Answer, search

_START = 32
"""First batch that a search tries if there is no prediction."""
COMPILED = (
    "the largest batch is not searched: each one would be compiled anew; harness predict says"
    " whether a batch fits"
)


def first_batch(accumulate: int) -> int:
    """Return the first batch that a search tries, which is a multiple of ``accumulate``.

    >>> first_batch(1), first_batch(5), first_batch(64)
    (32, 30, 128)
    """
    return max(_START // accumulate, LEAST_EXAMPLES) * accumulate


def threshold_of_step(
    step: Step,
    *,
    gpu: Gpu | str | None,
    device: str | None,
    budget_bytes: int | None,
    kind: EnforcementChoice,
    confirmations: int = CONFIRMATIONS,
    deadline_seconds: float,
    force: bool,
) -> StepThreshold:
    """Find the largest batch of a step; ``harness.threshold`` describes the arguments."""
    started = time.monotonic()
    if step.compile_mode is not None:
        raise UnsupportedError(COMPILED)
    check_bytes("budget_bytes", budget_bytes)
    on = device_of("cuda" if gpu is not None and device is None else device or "cpu", gpu)
    # An MLP on the same device: what enforces a budget depends on nothing else of the step.
    like = Workload(device=on, threads=step.threads)
    if kind == "cgroup":
        raise ArgumentError("a cgroup is the budget of an MLP; a step's kind is rlimit")
    limit = choose_kind(like, kind, whole_gpu=budget_bytes is None)
    if on == "cpu" and budget_bytes is not None and not force:
        hint = "choose a smaller budget, or override with --force"
        machine_memory.refuse_more_than_available("a budget of", budget_bytes, hint)
    pretends = on == "cuda" and (gpu is not None or not has_gpu())
    named = gpu_of(gpu) if pretends else None
    room = _room(named, budget_bytes)
    used = None if named is None else checked(named)
    with nullcontext() if pretends else closing(default_launcher("pinned")) as launcher:
        environment: Environment = {}
        if on == "cuda" and launcher is not None:
            environment = gpu_environment(like, launcher, deadline_seconds)
        budget = room or size_of_budget(budget_bytes, environment)
        predicted = None if used is None else _predicted(step, used, budget)
        request = request_of(step, sent_without_values if pretends else sent)
        steps = _StepSearch(request, on, used, budget, limit, launcher, deadline_seconds)
        live = steps.by_live_bytes() if on == "cpu" else None
        answer = steps.search(predicted or live or _START, confirmations)
    return StepThreshold(
        target=steps.request.subject or name_of(step.target),
        step=_step_text(step, steps.request, on, used),
        unit=step.accumulate,
        notes=steps.request.notes,
        solve="batch",
        budget_bytes=budget,
        kind=limit,
        predicted=predicted,
        live_bytes_predict=live,
        probes=tuple(steps.probes.seen),
        wall_seconds=time.monotonic() - started,
        environment=describe(like, "pretended GPU" if launcher is None else launcher.name)
        | environment,
        **answer,
    )


def _room(gpu: Gpu | None, budget_bytes: int | None) -> int | None:
    """Return the bytes that the allocator of a pretended GPU can use; None for a real device."""
    if gpu is None:
        return None
    if not gpu.total_bytes:
        raise ArgumentError("threshold needs a GPU of known size, e.g. gpu='l4'")
    most = gpu.total_bytes - OUTSIDE_BYTES[1]
    if budget_bytes is not None and budget_bytes > most:
        size, wanted = format_bytes(most), format_bytes(budget_bytes)
        raise ArgumentError(f"budget must be at most {size} on {gpu.name}, got {wanted}")
    return most if budget_bytes is None else budget_bytes


def _predicted(step: Step, gpu: Gpu, budget_bytes: int) -> int | None:
    """Predict the largest batch that fits into the budget on a pretended GPU."""
    room = dataclasses.replace(gpu, total_bytes=budget_bytes + OUTSIDE_BYTES[1])
    fit = predict_step(step, gpu=room, largest=True).fit
    return None if fit is None else fit.largest_batch


def _step_text(step: Step, request: StepRequest, device: str, gpu: Gpu | None) -> str:
    """Describe the options of a step, without the network and the batch."""
    parts = [request.mode]
    if request.mode == "train":
        named = isinstance(step.optimizer, str), isinstance(step.loss, str)
        parts.append(request.optimizer if named[0] else "its own optimizer")
        parts.append(f"loss {request.loss}" if named[1] else "its own loss")
    if request.autocast:
        parts.append(f"autocast {request.autocast}")
    if request.accumulate > 1:
        parts.append(f"{request.accumulate} micro-batches")
    return ", ".join([*parts, device if gpu is None else f"a pretended {gpu.name}"])


@dataclasses.dataclass
class _StepSearch:
    """Search for the largest batch of a step within a memory budget."""

    request: StepRequest
    device: Literal["cpu", "cuda"]
    gpu: Gpu | None
    budget_bytes: int
    kind: Enforcement
    launcher: Launcher | None
    deadline_seconds: float

    def __post_init__(self) -> None:
        self.probes = Probes(
            launch=self._launched,
            estimate=self._estimate,
            budget_bytes=self.budget_bytes,
            device=self.device,
        )

    def by_live_bytes(self) -> int | None:
        """Estimate the largest batch from live bytes; return None if the estimate fails."""
        question = LargestByLiveBytes(request=self.request, budget_bytes=self.budget_bytes)
        result = ended_question(question, self.deadline_seconds, launcher=self.launcher).result
        return None if result is None else result["batch"]

    def search(self, guess: int, confirmations: int) -> Mapping[str, Any]:
        """Find the largest batch of equal micro-batches; return the fields of ``StepThreshold``."""
        unit = self.request.accumulate
        try:
            return self._search(guess // unit, unit, 1, confirmations)
        except StepError as error:
            if not any(one.outcome is Outcome.OOM for one in self.probes.seen):
                raise
            fewest = f"{LEAST_EXAMPLES} examples in a micro-batch are the fewest that were tried"
            note = f"{fewest}: {error}"
            self.request = msgspec.structs.replace(self.request, notes=(*self.request.notes, note))
            return self._search(guess // unit, unit, LEAST_EXAMPLES, confirmations)

    def _search(self, guess: int, unit: int, least: int, confirmations: int) -> Mapping[str, Any]:
        return found(
            lambda: _in_examples(
                search(
                    lambda count: self.probes.probe(count * unit),
                    guess,
                    least=least,
                    most=HIGHEST // unit,
                    confirmations=confirmations,
                ),
                unit,
            )
        )

    def _estimate(self, batch: int, needed: int | None) -> int | None:
        """Extrapolate the largest micro-batch linearly from the two largest batches that ran."""
        del batch, needed
        needs = {one.value: one.needed_bytes for one in self.probes.seen if one.needed_bytes}
        if len(needs) < 2:
            return None
        before, last = sorted(needs.items())[-2:]
        return line_meets(self.budget_bytes, before, last) // self.request.accumulate

    def _launched(self, batch: int, budget_bytes: int) -> NeededEnd:
        """Run a batch in a worker process; raise an error if the user's code fails."""
        request = msgspec.structs.replace(self.request, batch=batch)
        question = ProbeStep(
            request=request,
            device=self.device,
            gpus=() if self.gpu is None else (self.gpu,),
            budget_bytes=budget_bytes,
            kind=self.kind,
        )
        ended = ended_question(question, self.deadline_seconds, launcher=self.launcher)
        if ended.failure is not None and not ended.failure.out_of_memory:
            error = error_of(ended.failure)
            other = with_labels(self.request, error) if isinstance(error, StepError) else None
            if other is None:
                with with_advice(request):
                    raise error
            self.request = other
            return self._launched(batch, budget_bytes)
        return ended


def _in_examples(answer: Answer, unit: int) -> Answer:
    """Convert the sizes in a search result from micro-batches to whole batches."""

    def times(value: int | None) -> int | None:
        return None if value is None else value * unit

    return dataclasses.replace(
        answer,
        largest_fit=times(answer.largest_fit),
        smallest_fail=times(answer.smallest_fail),
        band=tuple(msgspec.structs.replace(one, value=one.value * unit) for one in answer.band),
    )
