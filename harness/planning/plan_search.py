"""Searches for changes that make a training step fit on a GPU.

For each change, the search finds the smallest number of micro-batches with which the step fits. The
search also shows that the step does not fit with the next smaller number.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import replace

from harness.planning.plan_result import Candidate, Edge, Lever, Plan, Saving
from harness.planning.step_changes import (
    RETRY_COST,
    StepChange,
    Subject,
    code_of,
    levers_of,
    possible_changes,
)
from harness.schema.memory_fit import GpuFit
from harness.schema.units import format_bytes

EXPANDABLE = "expandable_segments:True"
NO_BLOCKS = "the network has no repeated blocks to checkpoint, so checkpointing was not tried"
SHARDED = (
    "of parameters, gradients and optimizer state at most {} leave each GPU, less what is "
    "gathered; harness dry-run --world-size 8 -- train.py runs a rank"
)
LOAD_ON_HOST = 'resume with torch.load(file, map_location="cpu")'
LOADED = "a checkpoint that is loaded onto the GPU, and that a variable keeps"
MAPPED, READ = "torch.load(file, mmap=True)", "reading the file: its mapped pages can be dropped"
SHARDS = "save shards (torch.distributed.checkpoint) on 8 GPUs"
FULL = "a full state of weights and optimizer that each rank gathers"
NORMS = "batch normalization computes its statistics for each micro-batch"

Progress = Callable[[str], object]
"""Function that is called with a description of each step before the step is tried."""
FitOf = Callable[[StepChange, int, str], GpuFit | str]
"""Function that predicts whether a changed step fits, or returns the reason why the step does not
run. If the unchanged step does not run, the function raises an error."""


class PlanSearch:
    """Finds the candidates of a plan, and predicts each changed step only once."""

    def __init__(self, subject: Subject, fit_of: FitOf, progress: Progress = str) -> None:
        self._subject = subject
        self._fit_of = fit_of
        self._progress = progress
        self._known: dict[tuple[StepChange, int, str], GpuFit | str] = {}

    def plan(self, settings: str) -> Plan:
        """Return the plan for the given settings of the CUDA allocator."""
        as_asked = self._fit(StepChange(), 1, settings)
        assert isinstance(as_asked, GpuFit), "a whole batch that does not run is an error"
        changes: tuple[StepChange, ...] = (StepChange(),)
        if as_asked.verdict != "fits" or as_asked.needs_retries:
            changes = possible_changes(self._subject)
        candidates: list[Candidate] = []
        too_large = []
        for change in sorted(changes, key=lambda change: len(change.described())):
            counts = _worth_trying(change, self._subject.batch, candidates)
            fitting = list(self._smallest_change(change, settings, counts))
            candidates += fitting
            if not fitting and counts == _divisors(self._subject.batch):
                too_large.append(", ".join(change.described()) or "micro-batches alone")
        ranked = sorted(_needed(candidates), key=_rank)
        notes = [] if self._subject.blocks or len(changes) == 1 else [NO_BLOCKS]
        if self._subject.has_norms and any(c.micro_batches > 1 for c in ranked):
            notes.append(NORMS)
        return Plan(
            batch=self._subject.batch,
            gpu=self._subject.gpu,
            as_asked=as_asked,
            candidates=tuple(ranked),
            too_large=tuple(too_large),
            rejected=tuple(self._rejected()),
            notes=tuple(notes),
            edges=tuple(self._edges(as_asked, settings)),
            saving=self._saving(),
            levers=tuple(sorted(self._levers(as_asked, settings), key=lambda one: -one.order)),
        )

    def _levers(self, as_asked: GpuFit, settings: str) -> Iterator[Lever]:
        """Yield the effect of each single change on the step with the whole batch."""
        micro = [(StepChange(), 2, settings)] if self._subject.batch % 2 == 0 else []
        changes = [(change, 1, settings) for change in levers_of(self._subject)]
        more = [] if "expandable_segments" in settings else [_joined(settings, EXPANDABLE)]
        for change, parts, chosen in (*micro, *changes, *((StepChange(), 1, s) for s in more)):
            words = f"{parts} micro-batches" if parts > 1 else ", ".join(change.described())
            fit = self._fit(change, parts, chosen)
            lever = Lever(
                name=words or f"PYTORCH_ALLOC_CONF={chosen}",
                relative_time=change.relative_time(parts),
                code=code_of(change, self._subject, parts),
            )
            if isinstance(fit, str):
                yield replace(lever, why=f"does not run: {fit}")
            else:
                saved = as_asked.reserved_peak_bytes[1] - fit.reserved_peak_bytes[1]
                time = change.relative_time(parts) + RETRY_COST * fit.needs_retries
                yield replace(lever, fit=fit, saved_bytes=saved, relative_time=time)
        if self._subject.state_bytes:
            leaves = format_bytes(self._subject.state_bytes * 7 // 8)
            yield Lever(name="FSDP2 on 8 GPUs", why=SHARDED.format(leaves))

    def _edges(self, as_asked: GpuFit, settings: str) -> Iterator[Edge]:
        """Yield memory-saving ways to load and to write a checkpoint."""
        weights, saved = self._subject.weights_bytes, self._subject.saved_bytes
        if not weights:
            return
        kept = self._fit(StepChange(resumed=True), 1, settings)
        if isinstance(kept, GpuFit):
            more = kept.reserved_peak_bytes[1] - as_asked.reserved_peak_bytes[1]
            yield Edge(name=LOAD_ON_HOST, of="GPU", saved_bytes=more, instead_of=LOADED, fit=kept)
        yield Edge(name=MAPPED, of="host of each rank", saved_bytes=weights, instead_of=READ)
        yield Edge(name=SHARDS, of="GPU", saved_bytes=saved * 7 // 8, instead_of=FULL)

    def _saving(self) -> Saving | None:
        """Return the host memory for saving a checkpoint, or None if the network has no weights."""
        subject = self._subject
        if not subject.weights_bytes:
            return None
        states = subject.saved_bytes - subject.weights_bytes
        of = "weights and states of the optimizer" if states else "weights"
        if subject.optimizer is None:
            of = "weights; states of an optimizer of yours add to them"
        return Saving(state_bytes=subject.saved_bytes, largest_bytes=subject.largest_bytes, of=of)

    def _rejected(self) -> Iterator[str]:
        """Yield a description of each tried step that may not fit, in the order of the search."""
        for (change, parts, settings), fit in self._known.items():
            what = self._words(change, parts, settings)
            if isinstance(fit, str):
                yield f"{what}: does not run: {fit}"
            elif fit.verdict != "fits":
                yield f"{what}: {fit.verdict}, reserves {fit.reserved_text}"

    def _words(self, change: StepChange, parts: int, settings: str) -> str:
        micro = f"{parts} x {self._subject.batch // parts:,}"
        return ", ".join([micro, *change.described(), *[settings] * bool(settings)])

    def _smallest_change(
        self, change: StepChange, settings: str, counts: list[int]
    ) -> Iterator[Candidate]:
        """Yield at most two candidates for a change, without and with expandable segments."""
        plain = self._candidate(change, settings, counts)
        if plain is not None:
            yield plain
        if "expandable_segments" in settings:
            return
        both = _joined(settings, EXPANDABLE)
        fewer = [n for n in counts if plain is None or n < plain.micro_batches]
        expandable = self._candidate(change, both, fewer)
        if expandable is not None:
            yield expandable

    def _candidate(self, change: StepChange, settings: str, counts: list[int]) -> Candidate | None:
        """Return the candidate with the smallest number of micro-batches that fits, or None."""
        at = bisect_left(counts, True, key=lambda n: self._fits(change, n, settings))
        if at == len(counts):
            return None
        parts = counts[at]
        fit = self._fit(change, parts, settings)
        neighbour = self._fit(change, counts[at - 1], settings) if at else None
        assert isinstance(fit, GpuFit), "it fits, so it was predicted"
        return Candidate(
            change=change,
            micro_batches=parts,
            micro_batch=self._subject.batch // parts,
            allocator_settings=settings,
            relative_time=change.relative_time(parts) + RETRY_COST * fit.needs_retries,
            fit=fit,
            neighbour=neighbour if isinstance(neighbour, GpuFit) else None,
            code=code_of(change, self._subject, parts),
        )

    def _fits(self, change: StepChange, parts: int, settings: str) -> bool:
        fit = self._fit(change, parts, settings)
        return isinstance(fit, GpuFit) and fit.verdict == "fits"

    def _fit(self, change: StepChange, parts: int, settings: str) -> GpuFit | str:
        """Predict whether the changed step fits, or return the reason why the step does not run."""
        question = change, parts, settings
        if question not in self._known:
            self._progress(self._words(change, parts, settings))
            self._known[question] = self._fit_of(change, parts, settings)
        return self._known[question]


def _joined(*settings: str) -> str:
    return ",".join(filter(None, settings))


def _rank(candidate: Candidate) -> tuple[bool, float, int]:
    change = candidate.change
    trains_otherwise = change.adapters or change.optimizer in ("sgd", "8-bit states")
    return trains_otherwise, candidate.relative_time, len(change.described())


def _needed(candidates: list[Candidate]) -> list[Candidate]:
    """Remove a candidate if a candidate with fewer of the same changes is not slower."""

    def beats(other: Candidate, one: Candidate) -> bool:
        fewer = set(other.parts()) < set(one.parts())
        return fewer and other.relative_time <= one.relative_time

    return [one for one in candidates if not any(beats(other, one) for other in candidates)]


def _worth_trying(change: StepChange, batch: int, candidates: list[Candidate]) -> list[int]:
    """Return the numbers of micro-batches with which the change may save time."""
    parts = set(change.described())
    limits = [one.relative_time for one in candidates if set(one.parts()) < parts]
    best = min(limits, default=float("inf"))
    return [n for n in _divisors(batch) if change.relative_time(n) < best]


def _divisors(batch: int) -> list[int]:
    return [parts for parts in range(1, batch + 1) if batch % parts == 0]
