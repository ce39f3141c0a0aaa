"""A whole training run, as a worker is asked for it."""

from typing import Any

from harness.processes.messages import OfWorkload
from harness.schema.training_run import TrainingPlan


class Train(OfWorkload[dict[str, Any]], frozen=True, kw_only=True):
    """A whole training run; the answer has the fields of a ``TrainingResult``, and environment."""

    done_by = "harness.measurement.whole_run:run"

    plan: TrainingPlan
