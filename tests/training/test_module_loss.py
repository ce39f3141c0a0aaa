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


@pytest.mark.parametrize("labels", [torch.tensor([1, 2]), torch.tensor([[1, 1, 1], [2, 2, 2]])])
def test_each_token_has_a_cross_entropy(labels: torch.Tensor) -> None:
    scores = torch.arange(24.0).sin().view(2, 3, 4)
    known = [-scores[i, j].log_softmax(0)[i + 1] for i in range(2) for j in range(3)]
    tokens = {"ids": torch.zeros(2, 3, dtype=torch.int64)}
    loss = loss_of("cross-entropy", scores, labels, tokens)
    torch.testing.assert_close(loss, torch.stack(known).mean())


def test_an_output_in_three_dimensions_that_is_no_tokens_is_refused() -> None:
    channels = torch.ones(2, 3, 4)
    with pytest.raises(StepError, match=r"for tokens \(batch, ...\), got \(2, 3, 4\)"):
        loss_of("cross-entropy", channels, torch.tensor([0, 1]), torch.ones(2, 3))


def test_a_language_models_output_gets_the_right_advice() -> None:
    with pytest.raises(StepError, match=r"--input labels=int64:SHAPE.* use loss model"):
        loss_of("cross-entropy", SimpleNamespace(logits=LOGITS, loss=None), None)
