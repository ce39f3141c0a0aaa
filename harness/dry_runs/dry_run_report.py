"""The report of a dry run as data."""

from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Struct

from harness.dry_runs.gpu_process import GpuProcess, SharedGpu
from harness.dry_runs.notebook_cell import Freed, NotebookCell
from harness.dry_runs.ran_test import RanTest
from harness.dry_runs.value_answers import Answer as Answer
from harness.dry_runs.value_places import Decision
from harness.dry_runs.value_places import ValueRead as ValueRead
from harness.schema.block_categories import BlockCategory
from harness.schema.compilation import Compiled
from harness.schema.growth import Growth
from harness.schema.host import ONE_POOL, Host
from harness.schema.memory_fit import Fit
from harness.schema.metrics import CudaPeaks
from harness.schema.run_outcome import Outcome
from harness.schema.shown import html_of
from harness.schema.units import format_bytes

if TYPE_CHECKING:
    import pandas as pd

DryRunFit = Fit | Literal["unknown", "depends"]
"""``unknown``: the GPU shares the host's memory, and the host was not sampled. ``depends``: whether
the run fits depends on unknown values."""


class Frame(Struct, frozen=True, kw_only=True):
    """One line of a Python stack."""

    file: str
    line: int
    function: str
    text: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.function}"


class PlaceGroup(Struct, frozen=True, kw_only=True):
    """Blocks that one place allocated and that were alive together."""

    place: str
    category: BlockCategory
    requested_bytes: int
    blocks: int


class Moment(Struct, frozen=True, kw_only=True):
    """The moment of most requested bytes, or of out of memory, and the blocks alive then.

    Attributes:
        requested_bytes: bytes requested and not freed; the sum of the categories.
        allocation: number of the allocation, from 1.
        seconds: seconds since the first allocation.
        step: number of completed optimizer steps.
        stack: stack of the request, innermost frame first; empty in the backward pass, which runs
            in a thread without Python.
        groups: the largest groups of live blocks.
    """

    requested_bytes: int
    allocation: int
    seconds: float
    step: int
    stack: tuple[Frame, ...]
    categories: dict[BlockCategory, int]
    groups: tuple[PlaceGroup, ...]


class OutOfMemory(Struct, frozen=True, kw_only=True):
    """One refused allocation: its place, its size, and the bytes held then."""

    device: int
    requested_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    free_bytes: int
    stack: tuple[Frame, ...]
    at: Moment | None = None


class Device(Struct, frozen=True, kw_only=True):
    """One pretended GPU.

    Attributes:
        requested_total_bytes: sum of all allocations, freed or not.
        graph_pools: private pools of CUDA graphs that were still there at the end.
        graph_pool_bytes: bytes that these pools keep reserved between replays.
        kept_by_works: bytes that collectives of a step kept until a later step, at most.
        growth: growth of the memory that stays alive over the optimizer steps.
        phases: most bytes requested in training, evaluation and saving, and in the step after each.
    """

    index: int
    peaks: CudaPeaks
    allocations: int = 0
    requested_total_bytes: int = 0
    segments: int = 0
    retries: int = 0
    ooms: int = 0
    graph_pools: int = 0
    graph_pool_bytes: int = 0
    kept_by_works: int = 0
    growth: Growth | None = None
    phases: dict[str, int] = {}
    peak: Moment | None = None


class UnknownValues(Struct, frozen=True, kw_only=True):
    """Results of runs with other values in place of unknown values that are read from the GPU.

    Attributes:
        runs: number of runs that ended with an answer, including the first run.
        lines: lines whose decisions depend on unknown values.
        checks: lines whose check was assumed to pass, because the other answer is an error.
        moves: whether any peak differs between the runs.
        lowest: the lowest value of each peak in all runs, for the GPU that reserved most.
        highest: the highest value of each peak.
    """

    runs: int
    lines: tuple[str, ...]
    checks: tuple[str, ...]
    moves: bool
    lowest: CudaPeaks
    highest: CudaPeaks


class WrittenFile(Struct, frozen=True, kw_only=True):
    """A file or folder that the script has changed in its layer; the user's file did not change.

    Attributes:
        path: path of the file or folder.
        what: kind of change; ``emptied`` means that a folder was removed and made again.
        size_bytes: its size; None for a folder and for a deleted file.
        former: the former path of a renamed folder.
    """

    path: str
    what: Literal["new", "changed", "deleted", "renamed", "emptied"]
    size_bytes: int | None = None
    former: str | None = None


class Files(Struct, frozen=True, kw_only=True):
    """The place of the files that the script wrote.

    Attributes:
        mode: ``layer`` if the files are in a layer, which is removed after the run. ``read-only``
            if the kernel refused a layer, so that no file could be written. ``written`` if they are
            real files.
        written: files written into the layer, the largest first.
        refused: reason why the kernel refused a layer.
        kept: folder of the copies, if the files were copied.
    """

    mode: Literal["layer", "read-only", "written"]
    written: tuple[WrittenFile, ...] = ()
    refused: str | None = None
    kept: str | None = None


class DryRunReport(Struct, frozen=True, kw_only=True):
    """Outcome of a script on a pretended GPU, and the memory that the script needed.

    Attributes:
        outcome: outcome of the script.
        evidence: the error, the exit code or the signal; None if the script ended well.
        exit_code: the script's exit code, if the script ended with a code other than 0.
        gpu: name of the pretended GPU.
        gpu_total_bytes: memory of the pretended GPU.
        cuda: peaks of the GPU that reserved most.
        fit: whether the script fits the GPU, given the range of memory outside the allocator.
        outside_bytes: lowest and highest memory outside the allocator.
        host: memory of the host that the script and its workers took.
        devices: each pretended GPU with its peaks and the blocks alive at its peak, in the process
            that reserved most.
        processes: each process, the largest first; empty if only the script's own process held
            memory of the GPUs.
        shared: bytes that these processes held at once, for each GPU.
        out_of_memory: each refused allocation.
        value_reads: places that read values; places with most reads come first.
        unsupported: functions of CUDA that PyTorch called and that are not pretended.
        files: the files that the script wrote; None if the script did not start.
        unknown: results of runs with other values, if unknown values may decide anything.
        failed_by: the check of an unknown value that ended the script with an error.
        notes: further facts that you must know to use the numbers.
        optimizer_steps: number of optimizer steps that were completed.
        kernels: number of CUDA kernels that were launched; the stub runs none of them.
        wall_seconds: seconds that the script ran.
        compiled: work of ``torch.compile``; None if nothing was compiled.
        eager: peaks of the same run without ``torch.compile``, if requested.
        rank: the rank that ran; if several ranks ran, the rank that failed or else reserved most.
        ranks: the report of each rank, if several ranks ran.
        world_size: number of pretended ranks.
        environment: versions and settings of the run.
        tests: each test of pytest or unittest, if the script runs them.
        cells: each cell of a notebook.
        freed: steps that, one after another, would free the memory alive after the last cell.
        returned: return value of a function, as JSON decodes it.
        starts: reports of both starts of a resumed script; this report is that of the worse start.

    ``harness.dry_run`` shows an example.
    """

    outcome: Outcome
    evidence: str | None = None
    exit_code: int | None = None
    gpu: str
    gpu_total_bytes: int
    cuda: CudaPeaks
    fit: DryRunFit | None = None
    outside_bytes: tuple[int, int]
    host: Host | None = None
    devices: tuple[Device, ...] = ()
    processes: tuple[GpuProcess, ...] = ()
    shared: tuple[SharedGpu, ...] = ()
    out_of_memory: tuple[OutOfMemory, ...] = ()
    value_reads: tuple[ValueRead, ...] = ()
    unsupported: tuple[str, ...] = ()
    files: Files | None = None
    unknown: UnknownValues | None = None
    failed_by: Decision | None = None
    notes: tuple[str, ...] = ()
    optimizer_steps: int = 0
    kernels: int = 0
    wall_seconds: float | None = None
    compiled: Compiled | None = None
    eager: CudaPeaks | None = None
    rank: int | None = None
    ranks: "tuple[DryRunReport, ...]" = ()
    world_size: int | None = None
    environment: dict[str, str] = {}
    tests: tuple[RanTest, ...] = ()
    cells: tuple[NotebookCell, ...] = ()
    freed: tuple[Freed, ...] = ()
    returned: object = None
    starts: "tuple[DryRunReport, ...]" = ()

    def __repr__(self) -> str:
        """Return the outcome and the peak in one line."""
        reserved = self.cuda.reserved_peak_bytes
        size = "" if reserved is None else f", reserved {format_bytes(reserved)}"
        fit = "" if self.fit is None else f", {self.fit}"
        return f"<DryRunReport: {self.outcome} on {self.gpu}{fit}{size}>"

    @property
    def highest(self) -> CudaPeaks:
        """The highest value of each peak in all runs with other values."""
        return self.cuda if self.unknown is None else self.unknown.highest

    @property
    def answer(self) -> str:
        """The outcome, the verdict and the GPU in one line."""
        total, words = format_bytes(self.gpu_total_bytes), self.verdict
        comma = "" if words in (self.outcome, f"{self.outcome}, {self.fit}") else ","
        return f"{words}{comma} on a pretended {self.gpu} ({total})"

    @property
    def verdict(self) -> str:
        """The outcome and the verdicts on the GPU and on the host, in words."""
        fit = self.host_fit
        host = "" if fit in (None, "fits") else f"{fit} in the host's memory"
        return ", ".join(filter(None, (self.outcome, self.fit, self.worse_start, host)))

    @property
    def host_fit(self) -> Fit | None:
        """The verdict on the host's memory; None without a limit, or if the GPU shares it."""
        host = self.host
        return None if host is None or host.limit_source == ONE_POOL else host.fit

    @property
    def worse_start(self) -> str:
        """The worse start of a resumed script in words, e.g. ``worse when resumed``."""
        if not self.starts:
            return ""
        first, second = ((one.outcome, one.fit, one.cuda) for one in self.starts)
        if first == second:
            return "the same in both starts"
        mine = msgspec.structs.replace(self, starts=())
        return f"worse {'at the first start' if mine == self.starts[0] else 'when resumed'}"

    def with_note(self, note: str) -> "DryRunReport":
        """Return the report with one more note."""
        return msgspec.structs.replace(self, notes=(*self.notes, note))

    def summary(self) -> str:
        """Return the report in a few lines: the answer, the peaks, the failure, the notes."""
        sizes = ", ".join(f"{name} {format_bytes(size)}" for name, size in self._peaks())
        notes = [f"note: {note}" for note in self.notes]
        return "\n".join([self.answer, sizes, *filter(None, [self.evidence]), *notes])

    def _peaks(self) -> list[tuple[str, int]]:
        peaks = msgspec.structs.asdict(self.cuda).items()
        return [
            (name.removesuffix("_bytes").replace("_", " "), size) for name, size in peaks if size
        ]

    def to_frame(self) -> "pd.DataFrame":
        """Return the outcome, the GPU, the fit and the peaks as a data frame of one row.

        Returns:
            The peaks in bytes in nullable ``Int64`` columns, named as in ``harness.load``.
        """
        from harness.plots.columns import typed_frame

        peaks = {f"cuda.{name}": size for name, size in msgspec.structs.asdict(self.cuda).items()}
        plain = {"outcome": self.outcome, "gpu": self.gpu, "fit": self.fit}
        kinds = dict.fromkeys(plain, "string") | dict.fromkeys(peaks, "Int64")
        return typed_frame([plain | peaks], kinds)

    def _repr_html_(self) -> str:
        return html_of("dry_run_html", self)

    def to_json(self) -> str:
        """Return the report as one line of JSON."""
        return msgspec.json.encode(self).decode()
