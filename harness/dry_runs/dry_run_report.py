"""Data types for the report of a dry run."""

from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Struct

from harness.dry_runs.computing import Computed
from harness.dry_runs.gpu_process import GpuProcess, SharedGpu
from harness.dry_runs.notebook_cell import Freed, NotebookCell
from harness.dry_runs.ran_test import RanTest
from harness.dry_runs.value_answers import Answer as Answer
from harness.dry_runs.value_places import ValueRead as ValueRead
from harness.schema.block_categories import BlockCategory
from harness.schema.compilation import Compiled
from harness.schema.growth import Growth
from harness.schema.host import ONE_POOL, Host
from harness.schema.memory_fit import Fit
from harness.schema.metrics import CudaPeaks
from harness.schema.run_outcome import Outcome
from harness.schema.shown import html_of
from harness.schema.units import format_bytes, format_range

if TYPE_CHECKING:
    import pandas as pd

DryRunFit = Fit | Literal["unknown", "depends"]
"""``unknown`` means that the GPU shares the host's memory, but the host's memory was not sampled.
``depends`` means that GPU values that the dry run cannot compute decide whether the script fits."""


class Frame(Struct, frozen=True, kw_only=True):
    """One line of a Python stack."""

    file: str
    line: int
    function: str
    text: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.function}"


class PlaceGroup(Struct, frozen=True, kw_only=True):
    """Live blocks of one category that were allocated at the same place in the code."""

    place: str
    category: BlockCategory
    requested_bytes: int
    blocks: int


class Moment(Struct, frozen=True, kw_only=True):
    """The live blocks at the peak of requested bytes, or when an allocation failed.

    Attributes:
        requested_bytes: requested bytes of all live blocks; equals the sum of ``categories``.
        allocation: number of allocations up to this moment.
        seconds: time since the first allocation, in seconds.
        step: number of completed optimizer steps.
        stack: Python stack of the allocation, innermost frame first. The stack is empty in the
            backward pass, because autograd's thread does not run Python.
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
    """One failed allocation: its size, its stack, and the allocator's state at that time."""

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
        requested_total_bytes: requested bytes of all allocations, including freed blocks.
        graph_pools: number of private memory pools of CUDA graphs at the end of the script.
        graph_pool_bytes: bytes that private pools of CUDA graphs keep reserved between replays.
        kept_by_works: maximum, over all steps, of the bytes that only collectives kept alive.
        growth: growth of the live memory from one optimizer step to the next.
        phases: peak of requested bytes in each phase, such as ``training`` or ``evaluation``.
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


class Parting(Struct, frozen=True, kw_only=True):
    """The first difference between the allocations of two runs.

    Attributes:
        after: line of the last allocation in Python that both runs made; empty if there is none.
        ways: place of the next allocation of each run; empty if the run made no further one.
    """

    after: str
    ways: tuple[str, str]

    @property
    def line(self) -> str:
        """The line that decides, or else the last line with an allocation before it."""
        one, other = self.ways
        return one if one == other and is_line(one) else self.after or one or other

    @property
    def words(self) -> str:
        """The difference in a sentence."""
        one, other = self.ways
        after = f" after {self.after}" if self.after else ""
        if one == other:
            return f"the runs allocate different sizes at {one}{'' if is_line(one) else after}"
        if not (one and other):
            return f"the runs part{after}: one goes on at {one or other}, the other does not"
        return f"the runs part{after}: one goes on at {one}, the other at {other}"


def is_line(place: str) -> bool:
    """Return whether a place is a line of a file; autograd's threads run no Python."""
    return place.rpartition(":")[2].isdecimal()


class UnknownValues(Struct, frozen=True, kw_only=True):
    """Results of several runs that return different values for reads of unknown GPU values.

    Attributes:
        runs: number of runs that ended with a result, including the first run.
        places: places in the code that read unknown values.
        lines: the line that decides, if the peaks differ, else ``places``.
        parting: the first difference between the allocations of two runs, if the peaks differ.
        checks: lines with a check that was assumed to pass, because a failed check raises an error.
        moves: whether at least one peak differs between the runs.
        lowest: minimum of each peak over all runs, for the GPU that reserved most memory.
        highest: maximum of each peak over all runs, for the GPU that reserved most memory.
    """

    runs: int
    places: tuple[str, ...] = ()
    lines: tuple[str, ...]
    parting: Parting | None = None
    checks: tuple[str, ...]
    moves: bool
    lowest: CudaPeaks
    highest: CudaPeaks


class WrittenFile(Struct, frozen=True, kw_only=True):
    """A file or folder that the script changed in the file layer; the user's files are unchanged.

    Attributes:
        path: path of the file or folder.
        what: kind of change; ``emptied`` means that a folder was removed and created again.
        size_bytes: size of the file; None for a folder or a deleted file.
        former: the former path of a renamed folder.
    """

    path: str
    what: Literal["new", "changed", "deleted", "renamed", "emptied"]
    size_bytes: int | None = None
    former: str | None = None


class Files(Struct, frozen=True, kw_only=True):
    """The files that a script wrote, either as real files or into a file layer.

    Attributes:
        mode: ``layer`` if the script wrote into a file layer that is removed after the run. The
            mode is ``read-only`` if the kernel refused a file layer, so the script could not write
            files. The mode is ``written`` if the script changed the user's real files.
        written: files written into the file layer, the largest first.
        refused: reason why the kernel refused a file layer.
        kept: folder to which the harness copied the files; None if no file was copied.
    """

    mode: Literal["layer", "read-only", "written"]
    written: tuple[WrittenFile, ...] = ()
    refused: str | None = None
    kept: str | None = None


class DryRunReport(Struct, frozen=True, kw_only=True):
    """Outcome of a script on a pretended GPU, and the memory that the script needs.

    Attributes:
        outcome: outcome of the script, such as ``ok`` or ``oom``.
        evidence: error message, exit code or signal; None if the script ended normally.
        exit_code: exit code of the script if it called ``sys.exit`` with a code other than 0.
        gpu: name of the pretended GPU.
        gpu_total_bytes: memory of the pretended GPU.
        cuda: peaks of the GPU that reserved most memory.
        fit: whether the script fits the GPU, including the memory outside the allocator.
        outside_bytes: lowest and highest estimate of the memory outside PyTorch's allocator.
        host: host memory of the script and its workers.
        devices: peaks and live blocks of each GPU, in the process that reserved most memory.
        processes: processes that used the GPUs, the largest first; empty if only the script's main
            process used a GPU.
        shared: for each GPU, the peak memory of all processes together.
        out_of_memory: allocations that failed.
        value_reads: places in the code that read GPU values, the most frequent places first.
        unsupported: CUDA functions that PyTorch called although the stub does not implement them.
        files: the files that the script wrote; None if the script did not start.
        computed: what was computed of the values on the GPU.
        unknown: results of runs with different GPU values, if unknown values may affect the script.
        last_truth: the line that last asked for the truth of an unknown condition.
        notes: further facts that help to interpret the report.
        optimizer_steps: number of completed optimizer steps.
        kernels: number of CUDA kernel launches; the stub runs no kernel.
        wall_seconds: run time of the script, in seconds.
        compiled: summary of the compilations by ``torch.compile``; None if nothing was compiled.
        eager: peaks of a second run without ``torch.compile``, if the user requested this run.
        rank: the rank that ran; if several ranks ran, the rank that failed or reserved most memory.
        ranks: the report of each rank, if several ranks ran.
        world_size: number of pretended ranks.
        environment: versions and settings of the run.
        tests: result of each test, if the script runs pytest or unittest.
        cells: each cell of the notebook, with its peak.
        freed: references that keep memory alive after a notebook's last cell, each with its bytes.
        returned: return value of the function, encoded as JSON and decoded again.
        starts: reports of the first and second start; the other fields describe the worse start.

    For an example, see ``harness.dry_run``.
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
    computed: Computed | None = None
    unknown: UnknownValues | None = None
    last_truth: str | None = None
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
        """The maximum of each peak over all runs (see ``UnknownValues``)."""
        return self.cuda if self.unknown is None else self.unknown.highest

    @property
    def moves(self) -> bool:
        """Return whether runs with other made-up values have other peaks."""
        return self.unknown is not None and self.unknown.moves

    @property
    def range_in_words(self) -> str:
        """The range of reserved bytes and the line that decides; empty if no peak differs."""
        unknown = self.unknown
        if unknown is None or not unknown.moves:
            return ""
        low, high = (one.reserved_peak_bytes or 0 for one in (unknown.lowest, unknown.highest))
        apart = unknown.parting
        where = "at" if apart is None or apart.line in apart.ways else "after"
        line = unknown.lines[0].rpartition("/")[2] if unknown.lines else "an unknown line"
        return f"; {format_range(low, high)} reserved, as values decide {where} {line}"

    @property
    def answer(self) -> str:
        """The outcome, the verdict and the GPU in one line."""
        total, words = format_bytes(self.gpu_total_bytes), self.verdict
        comma = "" if words in (self.outcome, f"{self.outcome}, {self.fit}") else ","
        return f"{words}{comma} on a pretended {self.gpu} ({total}){self.range_in_words}"

    @property
    def verdict(self) -> str:
        """The outcome, and whether the script fits the GPU and the host, in words."""
        fit = self.host_fit
        host = "" if fit in (None, "fits") else f"{fit} in the host's memory"
        return ", ".join(filter(None, (self.outcome, self.fit, self.worse_start, host)))

    @property
    def host_fit(self) -> Fit | None:
        """The verdict on host memory; None if host memory is unlimited or shared with the GPU."""
        host = self.host
        return None if host is None or host.limit_source == ONE_POOL else host.fit

    @property
    def worse_start(self) -> str:
        """Text that names the worse start of a resumed script; empty if the script started once."""
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
        """Return the report in a few lines: the answer, the peaks, the error and the notes."""
        sizes = ", ".join(f"{name} {format_bytes(size)}" for name, size in self._peaks())
        notes = [f"note: {note}" for note in self.notes]
        return "\n".join([self.answer, sizes, *filter(None, [self.evidence]), *notes])

    def _peaks(self) -> list[tuple[str, int]]:
        peaks = msgspec.structs.asdict(self.cuda).items()
        return [
            (name.removesuffix("_bytes").replace("_", " "), size) for name, size in peaks if size
        ]

    def to_frame(self) -> "pd.DataFrame":
        """Return the outcome, the GPU, the fit and the peaks as a data frame with one row.

        Returns:
            A data frame with one row. The peaks are in bytes; their columns have the type ``Int64``
            and the same names as in ``harness.load``.
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
