"""``harness.explain`` explains why a program ran out of memory."""

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from harness.plots.memory_page import sheet_html, sheet_page
from harness.plots.sheet import Sheet, sheet_text
from harness.schema.argument_checks import ArgumentError
from harness.schema.shown import picture
from harness.snapshots.explain import Explanation, explain_file
from harness.snapshots.explain_sheet import explanation_sheet, failures_sheet
from harness.snapshots.file_bytes import is_snapshot
from harness.snapshots.log_failures import explained, find_failures
from harness.snapshots.log_text import Log, read_log_file
from harness.snapshots.oom_text import notes_on, parts
from harness.snapshots.other_messages import other_message

_LIKE_A_PATH = re.compile(r"/|\.\w{1,7}$")

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class OutOfMemoryReport:
    """Explanation of an out-of-memory failure.

    Attributes:
        sheet: sentences and tables of the explanation.
        facts: values that ``harness explain --json`` prints, by key.
        held: parts of the GPU's memory with their bytes; empty if the message has no sizes.
        limit: position, in bytes, and label of the limit line in ``plot``.
    """

    sheet: Sheet = field(repr=False, compare=False)
    facts: dict[str, object]
    held: tuple[tuple[str, int], ...] = ()
    limit: tuple[int, str] = (0, "")

    @cached_property
    def text(self) -> str:
        """Explanation as ``harness explain`` prints it."""
        return sheet_text(self.sheet)

    @cached_property
    def page(self) -> str:
        """Explanation as a self-contained HTML page."""
        return sheet_page(self.sheet)

    def summary(self) -> str:
        """Return the explanation as text."""
        return self.text

    def plot(self) -> "Figure":
        """Return a figure of the GPU's memory at the failure or, without a failure, at the peak.

        Raises:
            ArgumentError: the message has no sizes.
        """
        if not self.held:
            raise ArgumentError("nothing to plot: the failure's text has no sizes")
        rows = [(name, 0, size, size) for name, size in self.held]
        marked, mark = self.limit
        named = {"label": "bytes held", "marked": marked, "mark": mark, "in_bytes": True}
        return picture("plot_ranges", rows, **named)

    def to_frame(self) -> "pd.DataFrame":
        """Return a data frame with one row: the facts that are numbers or texts."""
        import pandas as pd

        plain = {k: v for k, v in self.facts.items() if isinstance(v, str | int | float | None)}
        return pd.DataFrame([plain])

    def __repr__(self) -> str:
        return f"<OutOfMemoryReport: {self.sheet.verdict[0]}>"

    def _repr_html_(self) -> str:
        return sheet_html(self.sheet)


def explain(source: str | Path) -> OutOfMemoryReport:
    """Explain why a program ran out of memory, and what would help.

    Args:
        source: path of a memory snapshot (``torch.cuda.memory._dump_snapshot``) or of a log; or the
            text of an out-of-memory message.

    Returns:
        The report. For a snapshot, the report begins with a device that ran out of memory, if there
            is one. For a log, the report begins with the failure that torchrun calls the root cause
            or, without a root cause, with the last failure.

    Raises:
        ArgumentError: the source is neither a file nor an out-of-memory message.
        HarnessError: the file is neither a valid snapshot nor a log with an out-of-memory message.

    >>> import harness
    >>> text = (
    ...     "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a "
    ...     "total capacity of 21.96 GiB of which 1.10 GiB is free. Of the allocated memory "
    ...     "19.50 GiB is allocated by PyTorch, and 1.00 GiB is reserved by PyTorch but "
    ...     "unallocated."
    ... )
    >>> "2 GiB requested" in harness.explain(text).summary()
    True
    """
    if isinstance(source, str) and is_message(source):
        return explain_log(Log(text=source))
    path = Path(source)
    if not path.is_file():
        raise ArgumentError(f"source must be a file or an out-of-memory message, got {source!r}")
    if not is_snapshot(path):
        return explain_log(read_log_file(path))
    return explain_snapshot(explain_file(path))


def is_message(text: str) -> bool:
    """Return whether a text is an out-of-memory message rather than the name of a file."""
    words = ("out of memory", "can't allocate memory", "not enough memory", "oom_kill", "oomkilled")
    known = any(each in text.lower() for each in words) or other_message(text) is not None
    is_sentence = text.count(" ") > 2 and not _LIKE_A_PATH.search(text)
    return "\n" in text or ((known or is_sentence) and not os.path.exists(text))  # noqa: PTH110


def explain_snapshot(explanations: Sequence[Explanation]) -> OutOfMemoryReport:
    """Return the report of a snapshot; the facts of the first device come first."""
    first, *others = (asdict(replace(one, blocks=None)) for one in explanations)
    for each in (first, *others):
        del each["blocks"]
    facts = {**first, "other_devices": others}
    moment, failure = explanations[0].moments[0], explanations[0].failure
    unused = ("reserved, unused", moment.reserved_bytes - moment.alive_bytes)
    usable = None if failure is None else failure.usable_bytes
    return OutOfMemoryReport(
        sheet=explanation_sheet(explanations),
        facts=facts,
        held=(*moment.categories, unused),
        limit=(usable or moment.reserved_bytes, "reserved" if usable is None else "usable memory"),
    )


def explain_log(log: Log) -> OutOfMemoryReport:
    """Return the report of a log; its facts describe the failure that is explained first."""
    failures = find_failures(log)
    last = explained(failures)[0]
    message = next((one.message for one in explained(failures) if one.message is not None), None)
    numbers = {} if last.message is None else last.message.as_dict()
    facts = {**last.as_dict(), **numbers, "failures": [each.as_dict() for each in failures]}
    return OutOfMemoryReport(
        sheet=failures_sheet(failures, [*notes_on(log)]),
        facts=facts,
        held=() if message is None else tuple((name, size) for _, name, size in parts(message)),
        limit=(0 if message is None else message.total_bytes, "memory of the GPU"),
    )
