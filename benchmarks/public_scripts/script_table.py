"""The page of the answers about public scripts and their seconds, made from the table."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

Row = Mapping[str, str]
"""A row of ``public-scripts.csv`` as text."""

_COLUMNS = (
    "repository and commit | command | steps | allocated | reserved | runs | computed"
    " | one run, s | all, s | computed, s | one run, processor s | all, processor s"
    " | computed, processor s"
)
_METHOD = """\
`make public-scripts CLONES=DIR` writes this page. Each unmodified script runs in its own folder
with the command `harness dry-run --gpu l4 [--steps N] -- SCRIPT` (other GPU: {others}).
The scripts read random images, words and tokens instead of their real data. *One run* and *all*
are with `--compute none`: no values are computed, and the command runs a script again with other
values if unknown values may change the result. *One run* is the time of the first run, and *all*
is the time of the whole command. *Computed* is the command with its default, `--compute auto`.
The column says for how many optimizer steps the budget lasted. These times were measured on
{processors} processors with torch {torch} ({dates}). Other processes used {foreign} of the
processors' time.
"""

RUNS = ("one", "all", "computed")
"""One run without values, all runs of the command, and the command that computes values."""


def scripts_page(rows: Sequence[Row]) -> str:
    """Return the page of all rows."""
    lines = ["# Public training scripts under the dry run\n", *_answer(rows), *_table(rows)]
    return "\n".join([*lines, *_errors(rows), ""])


def _answer(rows: Sequence[Row]) -> Iterator[str]:
    ended = Counter(f"{row['outcome']}, {row['fit']}".removesuffix(", ") for row in rows)
    several = [row for row in rows if int(row["runs"]) > 1]
    moved = sum(row["moves"] == "yes" for row in rows)
    done = [row for row in rows if row["outcome"] == "ok"]
    if not done:
        yield "No script was answered.\n"
        return
    yield (
        f"All runs of a script take {_ratio(done, 'wall')} times the wall time of one run and"
        f" {_ratio(done, 'processor')} times\nthe processor time of one run (sums over {len(done)}"
        f" scripts of {len({row['repository'] for row in done})} repositories). Of {len(rows)}"
        f" scripts, {', '.join(f'{count} ended `{end}`' for end, count in ended.items())}.\nIn"
        f" {len(several)} scripts, values that are unknown without a GPU may change the result."
        f" These values changed the peak of {moved or 'no'} script{'s' * (moved > 1)}.\n"
        f"With computed values, {_equal(done)} of {len(done)} scripts have the same peak; all"
        f" values of {sum(row['computed_values'] == 'all' for row in done)} were computed. This"
        f" takes {_ratio(done, 'wall', 'computed')} times the wall time of\n"
        "one run without values.\n"
    )
    busy = sum(float(row["foreign_seconds"]) for row in done)
    wall = sum(float(row[f"{which}_wall_seconds"]) for row in done for which in RUNS)
    processors = max(int(row["processors"]) for row in rows)
    days = sorted({row["date"] for row in rows})
    yield _METHOD.format(
        others="; ".join(
            f"`{row['command']}` on `{row['gpu']}`" for row in rows if row["gpu"] != "l4"
        ),
        processors=processors,
        torch=", ".join(sorted({row["torch"] for row in rows if row["torch"]})),
        dates=" to ".join(dict.fromkeys((days[0], days[-1]))),
        foreign=f"{busy / (wall * processors):.0%}",
    )


def _ratio(rows: Sequence[Row], clock: str, which: str = "all") -> str:
    one, more = (
        sum(float(row[f"{run}_{clock}_seconds"]) for row in rows) for run in ("one", which)
    )
    return f"{more / one:.2f}"


def _equal(rows: Sequence[Row]) -> int:
    """Return how many scripts have one peak, which is the same with computed values."""
    names = "lowest_reserved", "highest_reserved", "computed_lowest", "computed_highest"
    return sum(len({row[f"{name}_bytes"] for name in names}) == 1 for row in rows)


def _table(rows: Sequence[Row]) -> Iterator[str]:
    yield f"| {_COLUMNS} |"
    yield f"|---|---|{'---:|' * (_COLUMNS.count('|') - 1)}"
    for row in rows:
        steps = row["steps"] if row["steps"] != "0" else "own"
        cells = [f"{row['repository']} {row['commit'][:7]}", f"`{row['command']}`", steps]
        cells += [_size(row, name) for name in ("allocated", "reserved")]
        cells += [row["runs"], row["computed_values"]]
        cells += [
            f"{float(row[f'{which}_{clock}_seconds']):.1f}"
            for clock in ("wall", "processor")
            for which in RUNS
        ]
        yield f"| {' | '.join(cells)} |"
    yield '\nSteps: "own" means that a script updates its weights without an optimizer.'


def _size(row: Row, name: str) -> str:
    """Return a peak, or its range."""
    ends = dict.fromkeys(row[f"{end}_{name}_bytes"] for end in ("lowest", "highest"))
    return "–".join(f"{int(end):,}" for end in ends if end) or "-"


def _errors(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        if row["outcome"] != "ok":
            yield f"- `{row['command']}`: {row['outcome']}: {row['evidence']}"
