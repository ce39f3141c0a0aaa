"""The request to a worker for a whole training run."""

from typing import Any

from harness.processes.messages import OfWorkload
from harness.schema.training_run import TrainingPlan


class Train(OfWorkload[dict[str, Any]], frozen=True, kw_only=True):
    """Request for a training run; the result contains a ``TrainingResult`` and the environment."""

    done_by = "harness.measurement.whole_run:run"

    plan: TrainingPlan
