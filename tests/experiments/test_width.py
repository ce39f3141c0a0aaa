from pathlib import Path

import numpy as np
import pytest

from harness.analysis.decisions import geometric_ratio
from harness.schema.experiment import Size
from tests.experiments import predicted_records
from tests.experiments.predicted_records import named
from tests.experiments.test_planted_verdicts import base, widths


@pytest.mark.parametrize("slower", [1.2, 1.0, 0.8])
def test_planted_times_come_back(tmp_path: Path, slower: float) -> None:
    lines = widths(1.0, slower, 0.02, Size.DEFAULT)()
    section = predicted_records.section("width", tmp_path, lines)
    (times,) = [table.frame for table in section.tables if table.name == "times"]
    last = times.iloc[-1]
    assert last["widths"] == "all together"
    assert last["low"] < slower < last["high"]


def test_a_difference_that_is_not_worth_it_is_told_and_fails(tmp_path: Path) -> None:
    lines = widths(1.0, 1.02, 0.001, Size.DEFAULT)()
    *_, time = predicted_records.section("width", tmp_path, lines).claims
    assert time.words == "fails"
    assert "The interval lies above 1 at 2 of 2 powers, so the times differ there" in time.measured
    assert time.control.endswith("The verdict of the control: fails")


def test_bytes_at_powers_of_two_are_those_of_their_neighbours(tmp_path: Path) -> None:
    section = predicted_records.section("width", tmp_path, base("width"))
    memory = named(section, "Widths that are powers")
    assert memory.number == "0.99998 to 0.99999 times the neighbours' mean"


def test_intervals_cover_the_planted_ratio() -> None:
    random = np.random.default_rng(20261124)
    truth, simulations, blocks = 1.07, 3000, 9
    logs = np.log(truth) + 0.1 * random.standard_normal((simulations, blocks))
    hits = 0
    for sample in np.exp(logs):
        result = geometric_ratio(sample)
        hits += result.low <= truth <= result.high
    assert 0.93 <= hits / simulations <= 0.97
