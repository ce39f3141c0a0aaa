"""Runs a notebook cell by cell in IPython's shell, and records the memory after each cell.

Jupyter's kernel also runs cells in IPython's shell. The shell keeps the traceback of an error and
the results of cells, so the tensors in the traceback and in the results stay alive.
"""

import functools
import gc
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from msgspec.structs import replace

from harness.dry_runs.notebook_cell import Freed, NotebookCell, code_cells
from harness.dry_runs.peak_recording import EnoughStepsError, PeakRecording
from harness.schema.plain_text import utf8_name

_TRACEBACK = "the traceback of the error (sys.last_traceback)"
_RESULTS = "results of cells (Out, _)"
_CYCLES = "cycles of objects (gc.collect())"
_MOST_FREED = 16


class Notebook:
    """A notebook that is run once, in the module ``__main__``."""

    def __init__(self, recording: PeakRecording) -> None:
        self._recording = recording
        self._cells: list[tuple[NotebookCell, list[int], list[int]]] = []
        self.freed: tuple[Freed, ...] = ()
        """References left after the last cell, each with the bytes that its deletion frees."""
        self.has_printed = False
        """True if the shell has printed the traceback of the error that ``run`` raises."""

    def run(self, path: Path, main: ModuleType) -> None:
        """Run the cells; if one fails, skip the rest and raise its error without a traceback."""
        from IPython.terminal.interactiveshell import TerminalInteractiveShell
        from traitlets.config import Config

        plain = {"simple_prompt": True, "colors": "nocolor"}
        without_file = Config(
            {"HistoryManager": {"enabled": False}, "TerminalInteractiveShell": plain}
        )
        shell = TerminalInteractiveShell.instance(user_module=main, config=without_file)
        shell.keep_running = True
        shell.compile.get_code_name = lambda *_: f"{utf8_name(path.name)}[{len(self._cells) + 1}]"
        failed: BaseException | None = None
        for number, source in enumerate(code_cells(path), 1):
            before = self._recording.border()
            ran = shell.run_cell(source, store_history=True)
            failed = ran.error_before_exec or ran.error_in_exec
            is_ok = failed is None or isinstance(failed, EnoughStepsError)
            first_line = next((line for line in source.splitlines() if line.strip()), "")
            cell = NotebookCell(
                number=number,
                text=first_line,
                ended="ok" if is_ok else "error",
                alive_bytes=_alive_bytes(),
            )
            self._cells.append((cell, before, self._recording.border()))
            del ran
            if failed is not None or not shell.keep_running:  # or the cell said exit()
                break
        self._recording.mark_owners()  # before names are deleted
        freed = (one for one in _freed(shell, main, failed) if one.requested_bytes)
        self.freed = tuple(itertools.islice(freed, _MOST_FREED))
        if failed is not None:
            self.has_printed = True
            raise failed

    def cells(self) -> tuple[NotebookCell, ...]:
        """Return the cells with their peaks; call this after the recording has ended."""
        return tuple(self._complete(*one) for one in self._cells)

    def _complete(self, cell: NotebookCell, first: list[int], last: list[int]) -> NotebookCell:
        borders = zip(self._recording.histories, first or [0] * len(last), last, strict=False)
        peak = max((history.most_between(begin, end) for history, begin, end in borders), default=0)
        return replace(cell, requested_peak_bytes=peak or None)


def _alive_bytes() -> int:
    """Return the requested bytes of live blocks on all GPUs."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    stats = map(torch.cuda.memory_stats, range(torch.cuda.device_count()))
    return sum(one.get("requested_bytes.all.current", 0) for one in stats)


def _freed(shell: Any, main: ModuleType, failed: BaseException | None) -> Iterator[Freed]:
    """Delete the notebook's references in turn; yield the bytes that each deletion frees."""

    def by(what: str, let_go: Callable[[], object]) -> Freed:
        before = _alive_bytes()
        let_go()
        return Freed(what, before - _alive_bytes())

    yield by(_CYCLES, gc.collect)
    yield by(_TRACEBACK, lambda: _forget_error(shell, failed))
    yield by(_RESULTS, lambda: _forget_results(shell, vars(main)))
    names = [name for name in vars(main) if not name.startswith("_") and name not in ("In", "Out")]
    for name in names:
        yield by(f"del {name}", functools.partial(vars(main).pop, name))


def _forget_error(shell: Any, error: BaseException | None) -> None:
    """Drop Python's and IPython's references to the last error."""
    shell.last_execution_result = shell.InteractiveTB.tb = None
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        if hasattr(sys, name):
            delattr(sys, name)
    while error is not None:
        error.__traceback__ = None
        error = error.__context__
    gc.collect()  # its frames hold the error, and the error them


def _forget_results(shell: Any, names: dict[str, Any]) -> None:
    """Drop the results that IPython keeps: ``Out``, and ``_``, ``__``, ``___``, ``_1``, ..."""
    hook = shell.displayhook
    names["Out"].clear()
    hook._ = hook.__ = hook.___ = None
    for kept in (names, shell.user_ns_hidden):
        for name in [name for name in kept if re.fullmatch(r"_{1,3}|_\d+", name)]:
            del kept[name]
