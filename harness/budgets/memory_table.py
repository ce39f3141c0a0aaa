"""Makes a Markdown table that compares the memory of dry-run tests with another commit."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.schema.units import format_bytes

_ORDER = ("failed", "refused", "passed", "skipped")


def memory_table(tests: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]] = ()) -> str:
    """Return a Markdown table of the tests that used GPU memory, failed or were refused.

    Args:
        tests: list ``tests`` in the output of ``harness dry-run --json``.
        base: list ``tests`` of the commit to compare with.

    >>> test = {"name": "test_step", "outcome": "passed", "requested_peak_bytes": 3 << 20}
    >>> print(memory_table([test], [{**test, "requested_peak_bytes": 1 << 20}]))
    | test | result | peak | before | change |
    |---|---|---|---|---|
    | `test_step` | passed | 3 MiB | 1 MiB | +2,097,152 B |
    """
    before = {one["name"]: one.get("requested_peak_bytes") for one in base}
    shown = [
        one
        for one in sorted(tests, key=lambda one: _ORDER.index(one["outcome"]))
        if one.get("requested_peak_bytes") or one["outcome"] in _ORDER[:2]
    ]
    if not shown:
        return ""
    heads = ["test", "result", "peak", *(["before", "change"] if base else [])]
    rows = [heads, ["---"] * len(heads)]
    for one in shown:
        now, then = one.get("requested_peak_bytes"), before.get(one["name"])
        change = "" if now is None or then is None else f"{now - then:+,} B"
        cells = [f"`{one['name']}`", one["outcome"], _size(now)]
        rows.append([*cells, *([_size(then), change] if base else [])])
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines[1] = "|" + "---|" * len(heads)
    return "\n".join(lines)


def _size(size: int | None) -> str:
    return "-" if size is None else format_bytes(size)
