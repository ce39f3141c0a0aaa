"""The verdict on a whole from its parts: the middle one is earned, and both parts are named."""

import dataclasses

import pandas as pd
import pytest

from harness.analysis.decisions import Decided, exactly, is_roughly
from harness.analysis.judge import Part, judge, judge_cells
from harness.schema.findings import Claim, Judgement, Rule, Verdict

YES, NO, OPEN = exactly(True), exactly(False), Decided(verdict=Verdict.OPEN, repeats=9)
RULE = Rule(holds="it does", fails="it does not", open="nobody knows")


def parts(*given: tuple[Decided, int]) -> list[Part]:
    return [
        Part(name=f"part {at}", decision=decision, cells=cells)
        for at, (decision, cells) in enumerate(given)
    ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([(YES, 1), (YES, 9)], "holds"),
        ([(NO, 1), (NO, 1)], "fails"),
        ([(YES, 3), (NO, 2)], "holds for part 0, fails for part 1"),
        ([(YES, 2), (NO, 2)], "fails; holds only for part 0"),  # a half is not the larger part
        ([(YES, 1), (NO, 2)], "fails; holds only for part 0"),
        ([(YES, 5), (OPEN, 1)], "open"),  # it could hold for all, or for a part
        ([(YES, 5), (NO, 2), (OPEN, 1)], "holds for part 0, fails for part 1"),
        ([(YES, 3), (NO, 2), (OPEN, 1)], "open"),
        ([(YES, 1), (NO, 5), (OPEN, 3)], "fails; holds only for part 0"),
        ([(YES, 0), (NO, 1)], "fails"),  # no case, no part
        ([], "open"),
        ([(OPEN, 1)], "open"),
        (
            [(YES, 1)] * 6 + [(NO, 1)],
            "holds for part 0, part 1, part 2 and 3 more, fails for part 6",
        ),
    ],
)
def test_a_verdict_follows_from_its_parts(given: list[tuple[Decided, int]], words: str) -> None:
    assert judge(parts(*given)).words == words


def test_an_open_verdict_says_how_many_more_would_decide() -> None:
    assert judge(parts((OPEN, 1), (YES, 1))).repeats == 9
    assert judge(parts((OPEN, 1), (Decided(verdict=Verdict.OPEN), 1))).repeats is None


def test_a_part_that_holds_in_part_is_no_part() -> None:
    with pytest.raises(ValueError, match="divide"):
        judge(parts((judge(parts((YES, 2), (NO, 1))), 1)))


def test_a_verdict_in_part_names_both_parts_and_a_claim_its_rule() -> None:
    decision = judge(parts((YES, 2), (NO, 1)))
    claim = Claim(
        sentence="It is.", rule=RULE, second="none", number="2", measured="2",
        verdict=decision.verdict, holds_for=decision.holds_for, fails_for=decision.fails_for,
    )  # fmt: skip
    assert claim.words == decision.words == "holds for part 0, fails for part 1"
    for holds_for, fails_for in (("a", ""), ("", "b"), ("", "")):
        with pytest.raises(ValueError, match="names where"):
            dataclasses.replace(claim, holds_for=holds_for, fails_for=fails_for)
    with pytest.raises(ValueError, match="no part where it fails"):
        Judgement(verdict=Verdict.SUPPORTED, fails_for="b", number="", measured="", checks=())
    with pytest.raises(ValueError, match="rule"):
        Rule(holds="it does", fails="", open="nobody knows")


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.9, None, Verdict.SUPPORTED), (1.1, None, Verdict.SUPPORTED),
        (0.89, None, Verdict.REFUTED), (1.11, None, Verdict.REFUTED),
        (0.95, 1.05, Verdict.SUPPORTED), (0.85, 1.05, Verdict.OPEN), (1.2, 1.3, Verdict.REFUTED),
    ],
)  # fmt: skip
def test_roughly_means_one_thing(low: float, high: float | None, verdict: Verdict) -> None:
    assert is_roughly(low=low, high=high).verdict is verdict


GRID = pd.DataFrame(
    [(name, d, b) for name in ("adam", "sgd") for d in (1, 2, 4) for b in (1, 16, 256)],
    columns=["optimizer", "depth", "batch"],
)


@pytest.mark.parametrize(
    ("held", "missing", "words"),
    [
        ("batch > 0", 0, "holds"),
        ("batch < 0", 0, "fails"),
        ("optimizer == 'adam' or batch > 1", 0,
         "holds for batches from 16; Adam with batch 1, fails for SGD with batch 1"),
        ("depth == 4 and batch == 256", 0, "fails; holds only for depth 4 with batch 256"),
        ("depth == 2", 0, "fails; holds only for depth 2"),
        ("depth == 1 and batch == 1 or depth == 2 and batch == 16 or depth * batch == 1024", 0,
         "fails; holds only in 6 of 18 cells"),
        ("depth < 4 and batch > 1 and optimizer == 'adam'", 0,
         "fails; holds only for Adam with depths up to 2 and batches from 16"),
        ("batch > 0", 1, "open"),
        ("batch > 1", 6, "open"),
        ("batch > 1", 5, "holds for batches from 16, fails for batch 1"),
    ],
)  # fmt: skip
def test_the_regions_in_which_a_claim_holds_are_named(held: str, missing: int, words: str) -> None:
    chosen = GRID.index.isin(GRID.query(held).index).tolist()
    decision = judge_cells(GRID, chosen, ["optimizer", "depth", "batch"], missing=missing)
    assert decision.words == words


def test_the_cells_are_kept_for_a_map_if_they_differ() -> None:
    mixed, alike = ([at > 2 for at in range(18)], [True] * 18)
    kept = judge_cells(GRID, mixed, ["depth", "batch"]).cells
    assert kept is not None
    assert [*kept.columns] == ["depth", "batch", "holds"]
    assert kept["holds"].tolist() == mixed
    assert judge_cells(GRID, alike, ["depth", "batch"]).cells is None


def test_a_cell_of_which_nothing_is_known_leaves_the_verdict_open() -> None:
    assert judge_cells(GRID, [True] * 17 + [None], ["batch"]).verdict is Verdict.OPEN
