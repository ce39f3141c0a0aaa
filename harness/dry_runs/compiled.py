"""Records the graphs, graph breaks and compile time of ``torch.compile`` in a dry run.

Compilation is real: Inductor generates code, and Triton and ``ptxas`` compile it. The kernels do
not run, so Inductor chooses between kernels without timing them (``autotuning.py``).
"""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.dry_runs.own_code import is_own, users_frame
from harness.prediction.after_import import after_import, instead
from harness.schema.compilation import Compiled

_FALLBACKS = ("recompile_limit", "cache_size_limit", "WON'T CONVERT")


def watch(
    tell: Callable[[str], None], unmeasured: Mapping[str, int] | None = None
) -> "Compilations":
    """Start watching ``torch.compile`` in this process.

    ``unmeasured`` contains, for each kind of choice between kernels, the number of untimed choices.
    """
    compilations = Compilations(tell, {} if unmeasured is None else unmeasured)
    after_import("torch._dynamo", compilations.watch)
    return compilations


class Compilations:
    """Records the compilations in this process after TorchDynamo has been imported."""

    def __init__(self, tell: Callable[[str], None], unmeasured: Mapping[str, int]) -> None:
        self._tell = tell
        self._unmeasured = unmeasured
        self._seconds = 0.0
        self._begin: float | None = None
        self._is_loaded = False
        self._recompilations = 0
        self._breaks: list[str] = []
        self._fallbacks: list[str] = []

    def watch(self, dynamo: Any) -> None:
        """Register callbacks with TorchDynamo, now and after each ``torch._dynamo.reset()``."""

        def register() -> None:
            dynamo.callback_handler.register_start_callback(self._on_start)
            dynamo.callback_handler.register_end_callback(self._on_end)

        @instead(dynamo, "reset")
        def keep_and_reset(reset: Callable[[], None]) -> None:
            self._breaks = self._all_breaks()
            reset()
            register()

        register()
        self._is_loaded = True
        logging.getLogger("torch._dynamo.convert_frame").addFilter(self._keep_fallback)

    def _keep_fallback(self, record: logging.LogRecord) -> bool:
        """Store a log message that reports uncompiled code; return True to keep the log record."""
        text = record.getMessage()
        if any(word in text for word in _FALLBACKS):
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            self._fallbacks.append(", ".join(lines[:2]))
        return True

    def _on_start(self, about: Any = None) -> None:
        self._begin = time.monotonic()
        if about is None:  # torch 2.7 says nothing about it, so it counts no compilation again
            return
        trigger = about.callback_trigger.name
        if trigger == "DYNAMO" and _recompiles(str(about.compile_id)):
            self._recompilations += 1
        what = trigger.lower().replace("_", " ").replace("dynamo", "graph")
        frame = users_frame()
        place = f", called at {frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""
        done = f"{self._seconds:.0f} s of compiling so far"
        self._tell(f"compiling: {what} {about.compile_id}{place}; {done}")

    def _on_end(self, about: Any = None) -> None:
        del about
        if self._begin is not None:
            self._seconds += time.monotonic() - self._begin
        self._begin = None

    def _all_breaks(self) -> list[str]:
        from torch._dynamo import utils

        return [*self._breaks, *map(_broken, utils.graph_break_reasons)]

    def compiled(self) -> Compiled | None:
        """Return a summary of the compilations so far; None if nothing was compiled."""
        if not self._is_loaded:
            return None
        from torch._dynamo import utils

        graphs = utils.counters["stats"]["unique_graphs"]
        if self._begin is not None:  # ended while it compiled
            self._on_end()
        if not graphs and not self._unmeasured and not self._fallbacks and not self._seconds:
            return None
        breaks = self._all_breaks()
        return Compiled(
            graphs=graphs,
            breaks=len(breaks),
            break_places=tuple(dict.fromkeys(breaks)),
            recompilations=self._recompilations,
            seconds=self._seconds,
            fallbacks=tuple(dict.fromkeys(self._fallbacks)),
            unmeasured=dict(self._unmeasured),
        )


def _recompiles(compile_id: str) -> bool:
    """Return whether a compile ID belongs to a recompilation: ``3/1`` does, ``3/0_2`` does not."""
    count = compile_id.rpartition("/")[2].partition("_")[0]
    return count.isdigit() and int(count) > 0


def _broken(reason: Any) -> str:
    """Return a graph break's code location, and the first line of the break's reason."""
    stack = [f for f in reason.user_stack if not is_own(f.filename)] or list(reason.user_stack)
    place = f"{Path(stack[-1].filename)}:{stack[-1].lineno}" if stack else "?"
    return f"{place} {str(reason.reason).strip().partition(chr(10))[0]}"
