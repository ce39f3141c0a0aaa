import pytest
import torch

from harness.instruments.saved_tensors import SavedTensors
from harness.schema.errors import UnsupportedError


def total(saved: SavedTensors) -> int:
    return sum(item.size_bytes for item in saved.held())


def test_a_view_counts_with_its_whole_storage() -> None:
    base = torch.ones(100)
    weight = torch.ones(10, requires_grad=True)
    with SavedTensors().watch() as saved:
        product = weight * base[:10]  # keeps the ten elements, so all hundred stay
    assert [item.size_bytes for item in saved.held()] == [400]
    del product


def test_a_tensor_counts_once_for_two_operators_and_not_after_autograd_dropped_it() -> None:
    x = torch.ones(100, requires_grad=True)
    with SavedTensors().watch() as saved:
        x.exp()
        assert total(saved) == 0
        y = x.exp()  # keeps its result
        kept = y * y  # keeps it again, twice
        assert total(saved) == 400
        torch.autograd.backward(kept.sum())
        assert total(saved) == 0


def test_a_step_under_which_nothing_is_seen_is_no_failure_of_the_users() -> None:
    """PyTorch asks for an issue where torch.func meets the hooks, which are the harness's."""
    with pytest.raises(UnsupportedError, match=r"torch\.func"), SavedTensors().watch():
        torch.func.grad(torch.sum)(torch.ones(2))
