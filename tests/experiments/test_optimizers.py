from pathlib import Path

import msgspec
import pytest

from experiments import optimizers
from harness.schema.experiment import Size
from harness.schema.findings import Verdict
from harness.schema.record import Record
from harness.schema.workload import Workload
from tests.experiments import predicted_records
from tests.experiments.predicted_records import named
from tests.known import known

# 784 -> 256 -> 10: 784*256 + 256 + 256*10 + 10 = 203,530 parameters of 4 bytes
PARAMETER_BYTES = 814_120


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return [predicted_records.record(workload) for workload in optimizers.cells(Size.QUICK)]


def test_state_is_the_formula_that_hand_arithmetic_gives(
    tmp_path: Path, records: list[Record]
) -> None:
    section = predicted_records.section(optimizers, tmp_path, records)
    state = named(section, "An optimizer keeps nothing")
    assert state.verdict is Verdict.SUPPORTED
    assert state.number == f"equal to the byte in {len(records)} of {len(records)} cells"
    assert "sgd: 0;" in state.measured
    assert "momentum: 1·parameter bytes;" in state.measured
    assert "adam: 2·parameter bytes + 8·layer;" in state.measured
    adam = 2 * PARAMETER_BYTES + 16
    by_hand = {"none": 0, "sgd": 0, "momentum": PARAMETER_BYTES, "adam": adam, "adamw": adam}
    for record in records:
        if record.workload.depth == 1:
            held = known(record.categories_at_peak).optimizer_state
            assert held == by_hand[record.workload.optimizer]


def test_one_byte_more_of_state_refutes_it(tmp_path: Path, records: list[Record]) -> None:
    bad = Workload(optimizer="adam", foreach="off", depth=2, batch=16)
    parts = known(predicted_records.record(bad).categories_at_peak)
    wrong = msgspec.structs.replace(parts, optimizer_state=parts.optimizer_state + 1)
    kept = [one for one in records if one.workload != bad]
    changed = [*kept, predicted_records.record(bad, categories_at_peak=wrong)]
    section = predicted_records.section(optimizers, tmp_path, changed)
    count = len(records)
    state = named(section, "An optimizer keeps nothing")
    assert state.verdict is Verdict.LIMITED
    assert state.fails_for == "adam, depth 2"
    assert state.number.endswith(f"{count - 1} of {count} cells")
    (misses,) = [table for table in section.tables if table.name == "misses"]
    assert list(misses.frame["difference_bytes"]) == [1]


def test_the_floor_of_four_and_the_phase_are_named(tmp_path: Path, records: list[Record]) -> None:
    section = predicted_records.section(optimizers, tmp_path, records)
    floor = named(section, "With Adam")
    assert floor.words == "fails"
    # Depth 1 by hand: weights, gradients, two moments, 16 bytes of counters; then the square
    # root and the quotient of the 784 x 256 weight, a wrapped number (8) and its cast (4).
    largest = 784 * 256 * 4
    # the batch's 16 examples and labels are left out of what is counted
    top = (4 * PARAMETER_BYTES + 16 + 2 * largest + 12) / PARAMETER_BYTES
    assert f"to {top:.3g} times the parameters" in floor.number
    phases = next(text for text in section.text if text.startswith("The peak lies"))
    assert "for none, sgd and momentum in 0 of " in phases
    assert "; for adam, " in phases
