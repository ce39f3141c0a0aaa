from pathlib import Path

from tests.experiments.predicted_records import named, section
from tests.experiments.test_planted_verdicts import base
from tests.known import known

# 784 -> 256 -> 10: 784*256 + 256 + 256*10 + 10 = 203,530 parameters of 4 bytes
PARAMETER_BYTES = 814_120


def test_state_floor_and_phase_are_those_that_hand_arithmetic_gives(tmp_path: Path) -> None:
    records = base("optimizers")
    said = section("optimizers", tmp_path, records)
    state = named(said, "An optimizer keeps nothing")
    assert state.number == f"{len(records)} of {len(records)} cells"
    assert state.second.endswith(f" agree in {len(records)} of {len(records)} comparisons")
    assert "; 2·parameter bytes + 8·layer (adam);" in state.measured
    adam = 2 * PARAMETER_BYTES + 16
    by_hand = {"none": 0, "sgd": 0, "momentum": PARAMETER_BYTES, "adam": adam, "adamw": adam}
    for record in records:
        if record.workload.depth == 1:
            held = known(record.categories_at_peak).optimizer_state
            assert held == by_hand[record.workload.optimizer]
    # Depth 1 by hand: weights, gradients, two moments, 16 bytes of counters; then the square
    # root and the quotient of the 784 x 256 weight, a wrapped number (8) and its cast (4).
    # The batch's 16 examples and labels are left out of what is counted.
    top = (4 * PARAMETER_BYTES + 16 + 2 * 784 * 256 * 4 + 12) / PARAMETER_BYTES
    assert f"to {top:.3g} times the parameters" in named(said, "With Adam").number
