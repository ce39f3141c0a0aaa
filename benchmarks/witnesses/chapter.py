"""Writes the chapter on real GPUs from the CSVs in ``results/witnesses``.

python -m benchmarks.witnesses.chapter
"""

import sys
from pathlib import Path

import pandas as pd

from benchmarks.witnesses.growth import (
    claim_of,
    doubling,
    frame_of,
    law_of,
    share_of_product,
)
from benchmarks.witnesses.pictures import (
    OURS,
    agreement_figure,
    errors_figure,
    residuals_figure,
    save,
)
from benchmarks.witnesses.published import read
from benchmarks.witnesses.rows import MIB, Row, source_named
from benchmarks.witnesses.runner import Record
from benchmarks.witnesses.scores import (
    HEADS,
    MOST_FOR_CONSTANT,
    NOT_MADE_FOR,
    SAME_HEADS,
    Score,
    cells_of,
    on_the_same_rows,
    score,
    table,
)
from benchmarks.witnesses.sources.timm_ladder import FITTED
from harness.analysis.fits import Coefficient

FOLDER = Path("results/witnesses")
MLPS = "gpumemnet-mlps"
LADDER = "timm-ladder"
ORDER = (
    MLPS, "gpumemnet-cnns", "gpumemnet-timm", LADDER, "torch-preflight-t4",
    "cs336-out-of-memory", "cs336-snapshots", "cs336-attention",
    "cs336-attention-h100", "liger", "ackaudit", "optimizers-notebooks",
    "unsloth-notebooks", "unsloth-quantized", "memsave-torch", "torch-jet",
    "custom-lomo", "torchinfo-issue", "ckp-training", "fakegpu-workspaces",
)  # fmt: skip
Published = tuple[list[Row], dict[str, dict[str, Record]], frozenset[str]]


def scores_of(published: Published) -> list[Score]:
    """Return the score of each predictor on a source, with this project's predictors first."""
    rows, said, crashed = published
    names = sorted(said, key=lambda name: (name not in OURS, name))
    return [score(rows, said[name], crashed, name) for name in names]


def scored_sources(folder: Path) -> dict[str, tuple[Published, list[Score]]]:
    """Return the published rows and the scores, for each source with a CSV."""
    found = {name: folder / f"{name}.csv" for name in ORDER}
    known = {name: read(path) for name, path in found.items() if path.exists()}
    return {name: (one, scores_of(one)) for name, one in known.items()}


def sources_table(names: list[str]) -> str:
    """Return the table of the origin of each source's numbers."""
    lines = []
    for name in names:
        one = source_named(name)
        where = ", ".join(f"`{path}`" for path in one.paths)
        lines.append(
            f"| {name} | [{one.repository.removeprefix('https://github.com/')}]({one.repository})"
            f" {one.commit}, {where} | {one.made} | {one.licence} |"
        )
    return "\n".join(lines)


def score_table(scores: list[tuple[str, Score]]) -> str:
    """Return a table of scores, each with its source."""
    lines = [[source, *cells_of(one)] for source, one in scores]
    return table([["source", *HEADS], *lines])


def misses_text(one: Score) -> str:
    """Return the text on the number of answers with large errors."""
    near = f"{one.close:,} of {one.rows:,} answers are within 2 MiB"
    far = f"{one.rows - one.refused - one.within_1_percent:,} answers are more than 1% off"
    return f"{near}. {far}. The largest error is {one.worst_bytes / MIB:+,.0f} MiB."


def answer_text(same: list[list[str]]) -> str:
    """Return the sentence that opens the page, from the dry run's row of the first table."""
    _, rows, percent, near, _ = next(row for row in same if row[0] == "dry-run")
    return (
        f"**The dry run's prediction is within 2 MiB of what a real A100 used for {near} of {rows} "
        f"published trainings of MLPs, and within 1% for {percent}.**"
    )


def ladder_text(rows: list[Row], said: dict[str, Record]) -> str:
    """Return the text on the number of largest and next batches that were predicted correctly."""
    known = [
        (row.measured_bytes, said[row.name]["predicted_bytes"]) for row in rows if row.name in said
    ]
    answers = [(batch, largest) for batch, largest in known if largest is not None]
    fits = sum(largest >= batch for batch, largest in answers)
    above = sum(largest <= batch for batch, largest in answers)
    ran = f"{fits} of {len(answers)} batches that ran are predicted to fit"
    return f"{ran}, and {above} of {len(answers)} next larger batches are predicted not to fit"


def growth_text(frame: pd.DataFrame) -> str:
    """Return the text on layers x batch, the law and the pairs, measured and predicted."""
    claim = claim_of(frame)
    lines = [
        f"**{claim.sentence}** {str(claim.words).capitalize()}.",
        "",
        f"- The claim holds if {claim.rule.holds}.",
        f"- The claim fails if {claim.rule.fails}. The claim stays open if {claim.rule.open}.",
        f"- {claim.measured} {claim.number}.",
        f"- Second source: {claim.second}. Smallest difference that matters: {claim.matters}.",
        "",
        "This law was fitted to networks of equal ReLU layers, in bytes with 95% intervals:",
        "",
    ]
    heads = ["", "measured on the A100", "dry run"]
    laws = [law_of(frame, column) for column in ("measured", "predicted")]
    cells = [
        [term, *(_with_interval(law.coefficient(term)) for law in laws)] for term in laws[0].terms
    ]
    cells.append(["R²", *(f"{law.r2:.4f}" for law in laws)])
    for doubled in ("depth", "batch"):
        ratios = [doubling(frame, doubled, column) for column in ("measured", "predicted")]
        pairs = f"{doubled} doubled, {ratios[0].blocks} pairs"
        cells.append([pairs, *(str(ratio) for ratio in ratios)])
    return "\n".join([*lines, table([heads, *cells])])


def _with_interval(one: Coefficient) -> str:
    digits = 0 if one.estimate > 1_000 else 2
    ends = f"{one.low:,.{digits}f} to {one.high:,.{digits}f}"
    return f"{one.estimate:,.{digits}f} ({ends})"


def main() -> int:
    sources = scored_sources(FOLDER)
    if not sources:
        print(f"no CSV in {FOLDER}", file=sys.stderr)
        return 2
    every = [
        (name, one)
        for name, (_, scores) in sources.items()
        for one in scores
        if name != LADDER and one.predictor not in NOT_MADE_FOR
    ]
    parts = {"sources": sources_table(list(sources)), "scores": score_table(every)}
    if LADDER in sources:
        (rows, said, _), _ = sources[LADDER]
        parts["ladder"] = ladder_text(rows[FITTED:], said["dry-run"])
    if MLPS in sources:
        (rows, said, crashed), scores = sources[MLPS]
        trained = [row for row in rows if row.name not in crashed]
        ours = next(one for one in scores if one.predictor == "dry-run")
        measured = {row.name: row.measured_bytes for row in trained}
        frame = frame_of(measured, said["dry-run"], constant_bytes=ours.constant_bytes)
        parts |= {"misses": misses_text(ours), "crashed": f"{len(crashed):,}"}
        parts |= {"growth": growth_text(frame), "share": f"{share_of_product(frame):.0%}"}
        same = on_the_same_rows(rows, said, crashed)
        parts |= {"same": table([SAME_HEADS, *same]), "answer": answer_text(same)}
        judged = trained[MOST_FOR_CONSTANT:]
        save(FOLDER, agreement_figure(judged, said["dry-run"], ours.constant_bytes))
        save(FOLDER, residuals_figure(judged, said["dry-run"], ours.constant_bytes))
        shown = [one for one in scores if one.predictor not in NOT_MADE_FOR]
        save(FOLDER, errors_figure(judged, said, shown))
    text = (Path(__file__).parent / "chapter.md").read_text()
    for name, part in parts.items():
        text = text.replace(f"{{{{ {name} }}}}", part)
    (FOLDER / "README.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
