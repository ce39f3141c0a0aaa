"""Statistics of ``torch.compile``, e.g. the number of graphs and graph breaks."""

from collections.abc import Iterator

from msgspec import Struct


class Compiled(Struct, frozen=True, kw_only=True):
    """Statistics of ``torch.compile`` in one process.

    Attributes:
        graphs: number of compiled graphs.
        breaks: number of graph breaks.
        break_places: code location of each graph break, with TorchDynamo's reason.
        recompilations: number of times that a compiled function was compiled again.
        seconds: compile time in seconds.
        fallbacks: functions that run uncompiled, with TorchDynamo's warnings.
        unmeasured: number of kernel choices made without timings on a real GPU, by kind of choice.
    """

    graphs: int
    breaks: int
    break_places: tuple[str, ...] = ()
    recompilations: int = 0
    seconds: float = 0.0
    fallbacks: tuple[str, ...] = ()
    unmeasured: dict[str, int] = {}

    def __str__(self) -> str:
        again = f", {self.recompilations:,} of them again" if self.recompilations else ""
        return (
            f"{self.graphs:,} graph{'s' * (self.graphs != 1)}{again}, {self.breaks:,}"
            f" break{'s' * (self.breaks != 1)}, {self.seconds:.1f} s compiling"
        )

    def notes(self) -> Iterator[str]:
        """Yield the statistics as lines of text."""
        yield f"compiled: {self}"
        yield from (f"break at {place}" for place in self.break_places)
        yield from (f"not compiled after all: {text}" for text in self.fallbacks)
        for what, count in self.unmeasured.items():
            yield f"chosen without a measurement, {count:,} times: {what}"
