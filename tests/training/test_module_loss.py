"""The loss that a model returns itself, in the forms that people write."""

from types import SimpleNamespace

import pytest
import torch

from harness.schema.errors import StepError
from harness.training.module_step import loss_of

LOSS, LOGITS = torch.tensor(2.0), torch.ones(3, 4)


@pytest.mark.parametrize(
    "output",
    [LOSS, (LOGITS, LOSS), (LOSS, LOGITS), {"loss": LOSS}, SimpleNamespace(loss=LOSS, x=LOGITS)],
)
def test_a_loss_is_found_in_what_a_model_returns(output: object) -> None:
    assert loss_of("model", output, None) is LOSS


@pytest.mark.parametrize("output", [LOGITS, (LOSS, LOSS + 1), {"logits": LOGITS}])
def test_an_output_without_one_scalar_is_refused(output: object) -> None:
    with pytest.raises(StepError, match="needs one scalar in the output"):
        loss_of("model", output, None)


def test_a_scalar_under_the_default_loss_gets_the_right_advice() -> None:
    with pytest.raises(StepError, match="use loss model"):
        loss_of("cross-entropy", LOSS, None)
