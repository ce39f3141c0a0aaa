"""The request to a worker for a whole training run."""

from typing import Any

from harness.processes.messages import OfWorkload
from harness.schema.training_run import TrainingPlan


class Train(OfWorkload[dict[str, Any]], frozen=True, kw_only=True):
    """A whole training run; the answer has the fields of ``TrainingResult`` and the environment."""

    done_by = "harness.measurement.whole_run:run"

    plan: TrainingPlan
