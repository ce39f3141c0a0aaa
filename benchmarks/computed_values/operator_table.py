"""Tables of the operators, modules and optimizers whose values are computed."""

import dataclasses
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.computed_values.comparison import WRONG, Outcome, Result
from benchmarks.computed_values.journal import Origin

SHOWN: tuple[Outcome, ...] = (
    "equal", "rounded", "random", "unknown", "differ", "error", "left out",
)  # fmt: skip
EXPLANATION = (
    "A result is one kind (such as backward) of one operator with one type, over all its samples"
    " that were taken; the gravest outcome counts. *Rounded* are 16-bit results that"
    " equal the CPU's 32-bit kernel, rounded, and not its 16-bit kernel, which rounds in between."
    " *Random* results are compared by type, shape"
    " and mean. *Unknown* are results that the dry run says it did not compute. `results.json` has"
    " each result that is not left out."
)


def write(results: Sequence[Result], origin: Origin, folder: Path) -> None:
    """Write ``results.json`` and ``README.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(dataclasses.asdict(one)) for one in results if one.samples]
    (folder / "results.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")
    (folder / "README.md").write_text(page(results, origin))


def page(results: Sequence[Result], origin: Origin) -> str:
    """Return the page: a sentence, the counts, then all that is not equal, by cause."""
    made = (
        f"Made by `make operators` on {datetime.now(UTC):%Y-%m-%d}, commit {origin.commit},"
        f" torch {origin.torch}. {_taken(results, origin.samples)}"
    )
    return "\n".join(
        [
            "# Operators on the pretended GPU, compared with the CPU",
            "",
            summary(results),
            "",
            made,
            "",
            *_counts(results),
            "",
            EXPLANATION,
            "",
            "## Not equal, by cause",
            "",
            *_by_cause([one for one in results if one.outcome in WRONG]),
            "",
            "## Left out, by reason",
            "",
            *_reasons(results),
            "",
        ]
    )


def summary(results: Sequence[Result]) -> str:
    """Return sentences with the shares of equal results and of operators without a difference."""
    right = ("equal", "rounded")
    counted = [one for one in results if one.outcome in (*right, *WRONG)]
    equal = sum(one.outcome in right for one in counted)
    rounded = sum(one.outcome == "rounded" for one in counted)
    names = {one.name for one in counted}
    wrong = {one.name for one in counted if one.outcome not in right}
    return (
        f"{equal:,} of {len(counted):,} results ({equal / max(len(counted), 1):.2%}) equal the"
        f" CPU's within PyTorch's own tolerances ({rounded:,} of them 16-bit results of its 32-bit"
        f" kernel), and {len(names - wrong):,} of {len(names):,}"
        " operators, modules and optimizers do so with every type and kind."
    )


def _taken(results: Sequence[Result], most: int | None) -> str:
    """Return how many of the database's samples were taken."""
    by_case = {(_group(one), one.name, one.dtype): one for one in results if one.taken}
    taken = sum(one.taken for one in by_case.values())
    available = sum(one.available for one in by_case.values())
    limit = "" if most is None else f" (at most {most} of a case)"
    return f"{taken:,} of the databases' {available:,} samples were taken{limit}."


def _group(result: Result) -> str:
    group = result.kind.partition(",")[0]
    return group if group in ("module", "optimizer") else "operator"


def _counts(results: Iterable[Result]) -> list[str]:
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    samples: Counter[tuple[str, str]] = Counter()
    for one in results:
        counts[one.kind, one.dtype][one.outcome] += 1
        samples[one.kind, one.dtype] += one.samples
    lines = [
        "| kind | type | " + " | ".join(SHOWN) + " | results | samples compared |",
        "|---|---|" + "---:|" * (len(SHOWN) + 2),
    ]
    for (kind, dtype), found in counts.items():
        numbers = [*(found[one] for one in SHOWN), found.total(), samples[kind, dtype]]
        lines.append(f"| {kind} | {dtype} | " + " | ".join(f"{one:,}" for one in numbers) + " |")
    return lines


def _reasons(results: Iterable[Result]) -> list[str]:
    counts = Counter(one.detail for one in results if one.outcome == "left out")
    lines = [f"| {reason} | {count:,} |" for reason, count in counts.most_common()]
    return ["| reason | results |", "|---|---:|", *lines]


def _by_cause(wrong: Sequence[Result]) -> list[str]:
    """Group by the text of the difference without its numbers."""
    causes: dict[str, list[Result]] = defaultdict(list)
    for one in wrong:
        causes[cause(one)].append(one)
    lines = []
    for text, group in sorted(causes.items(), key=lambda pair: -len(pair[1])):
        names: dict[str, list[str]] = defaultdict(list)
        for one in group:
            names[one.name].append(f"{one.kind} {one.dtype}")
        listed = "; ".join(
            f"`{name}` ({', '.join(places)})" for name, places in sorted(names.items())
        )
        lines += [f"- **{text}**, {len(group)}: {listed}"]
    return lines or ["Nothing."]


def cause(result: Result) -> str:
    """Return the first words of a difference, in which numbers do not matter."""
    if result.outcome == "error":
        return result.detail[:100].replace("|", "/")
    text = result.detail.split(": ", 1)[-1] if result.detail.startswith("input ") else result.detail
    return (
        "values differ"
        if text.startswith(("Tensor-likes", "Scalars"))
        else text[:60].replace("|", "/")
    )
