"""The formula of autocast against a real step."""

import pytest

from experiments.precision import ratios as precision_effect
from harness.measurement.passes import saved_pass
from harness.schema.workload import Workload
from harness.training import data, training_step
from harness.training.module_step import no_phase


@pytest.mark.exact
@pytest.mark.parametrize(("depth", "batch"), [(1, 3), (2, 64), (3, 7)])
def test_the_formula_of_autocast_is_what_a_real_step_saves(depth: int, batch: int) -> None:
    workload = Workload(depth=depth, width=24, in_features=40, batch=batch, autocast="bfloat16")
    built = training_step.build(workload, data.source(workload))
    measured = saved_pass(built, no_phase)["saved_bytes"]
    assert measured == precision_effect.autocast_saved_bytes(workload)
