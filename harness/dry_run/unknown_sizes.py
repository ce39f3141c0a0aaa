"""Sizes that depend on values nobody knows: such a run is no answer, or an upper bound.

An operator whose result's size depends on an unknown value says so itself. A number that the
script reads becomes a size where nothing is seen of it (``x[n:]``, ``range(n)``). So a script that
read unknown integers runs again, and reads 100 for each of them instead of 0, or 1 if 100 is an
error: if the allocator is asked for anything else, a size depends on them.
"""

import ast
import functools
import linecache
from collections.abc import Callable, Iterator, Sequence

from msgspec.structs import replace

from harness.dry_run.dry_run_report import DryRunReport, ValueRead
from harness.schema.record import Outcome

MOST_PLACES = 3
_ROUNDING = {"int", "round", "ceil", "floor", "trunc", "range", "divmod"}
_ASSIGNS = ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr


def unknown_sizes(reads: Sequence[ValueRead]) -> str | None:
    """Return why the run is no answer: a size depends on an unknown value; None if none does."""
    open_sizes = [read for read in reads if read.open_sizes]
    if not open_sizes:
        return None
    named = _listed([f"{read.place} ({', '.join(read.sizes)})" for read in open_sizes])
    return (
        f"size depends on values at {named}; --answer {_name(open_sizes[0])}=all gives an upper"
        " bound, a number the size, a number below 1 a fraction"
    )


def unknown_integers(reads: Sequence[ValueRead]) -> str | None:
    """Return why a step that runs once is no answer: it read integers that may be sizes."""
    integers = [read for read in reads if read.integers]
    named, hint = _named(integers)
    return f"sizes may depend on integers read at {named}; {hint}" if integers else None


def with_integers_tried(report: DryRunReport, again: Callable[[int], DryRunReport]) -> DryRunReport:
    """Return the report of a run that read each as 0, refused if a size depends on one.

    ``again`` runs the same with another number for each.
    """
    integers = [read for read in report.value_reads if read.integers]
    if not integers or report.outcome not in ("ok", "error"):
        return report
    named, hint = _named(integers)
    if report.outcome == "error":
        why = f"{report.evidence}; the integers read at {named} are not known: {hint}"
        return replace(report, evidence=why)
    number = 100
    other = again(number)
    if other.outcome == "error":  # such as an index out of range
        number = 1
        other = again(number)
    zeros = [report]
    if other.outcome != "killed" and _allocations(other) != _allocations(report):
        zeros.append(again(0))  # a first run may have filled caches of compiled code
    if other.outcome == "ok" and _allocations(other) in map(_allocations, zeros):
        note = (
            f"no size changes with the integers read at {named}: {number} instead of 0 gives the"
            " same ones"
        )
    elif other.outcome == "killed":
        note = f"sizes may depend on the integers read at {named}: the second run was ended"
    elif _allocations(zeros[-1]) != _allocations(report):
        note = (
            f"sizes may depend on the integers read at {named}: it cannot be tried, because two"
            " runs with the same values differ"
        )
    else:
        ended = "" if other.outcome == "ok" else f", {other.outcome} ({other.evidence})"
        why = (
            f"size depends on values at {named}: with {number} instead of 0, the allocator is asked"
            f" for {_total(other):,} B in all, not {_total(report):,} B{ended}; {hint}"
        )
        return replace(report, outcome=Outcome.UNSUPPORTED, evidence=why, fit=None)
    return replace(report, notes=(*report.notes, note))


def _allocations(report: DryRunReport) -> object:
    sizes = [(device.allocations, device.requested_total_bytes) for device in report.devices]
    return report.outcome, report.optimizer_steps, sizes


def _total(report: DryRunReport) -> int:
    return sum(device.requested_total_bytes for device in report.devices)


def _named(integers: Sequence[ValueRead]) -> tuple[str, str]:
    """Return the places, and the answer that they want."""
    first = _name(integers[0]) if integers else ""
    hint = f"--answer {first}=NUMBER gives the value that is read, 0 if it is zero"
    return _listed([read.place for read in integers]), hint


def _listed(places: Sequence[str]) -> str:
    more = f" and {len(places) - MOST_PLACES} more places" if len(places) > MOST_PLACES else ""
    return ", ".join(places[:MOST_PLACES]) + more


def _name(read: ValueRead) -> str:
    return read.place.rpartition("/")[2]


def bounds(reads: Sequence[ValueRead]) -> list[str]:
    """Return a note for each place whose sizes the user answered."""
    notes = []
    for read in reads:
        if read.sizes and not read.open_sizes:
            upper = "all elements, so the peaks are an upper bound" if read.answer == "all" else ""
            notes.append(
                f"sizes at {read.place} are those of --answer: {upper or f'{read.answer}'}"
            )
    return notes


@functools.cache
def becomes_integer(file: str, line: int) -> bool:
    """Return whether the source rounds what it reads on a line, there or by an assigned name."""
    try:
        nodes = list(ast.walk(ast.parse("".join(linecache.getlines(file)))))
    except (SyntaxError, ValueError):
        return False
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, _ASSIGNS) and _covers(node, line):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {name for target in targets for name in _names(target, ast.Store)}
    rounded = [node for node in nodes if isinstance(node, ast.expr) and _rounds(node)]
    return any(_covers(node, line) or not names.isdisjoint(_names(node)) for node in rounded)


def _rounds(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        name = getattr(node.func, "id", "") or getattr(node.func, "attr", "")
        return name in _ROUNDING and not (name == "round" and len(node.args) > 1)
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv)


def _names(node: ast.AST, context: type[ast.expr_context] = ast.Load) -> Iterator[str]:
    """Yield what is read or assigned in a node: ``n`` of ``n``, ``.n`` of ``self.n``."""
    for one in ast.walk(node):
        if isinstance(one, ast.Name | ast.Attribute) and isinstance(one.ctx, context):
            yield one.id if isinstance(one, ast.Name) else f".{one.attr}"


def _covers(node: ast.expr | ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)
