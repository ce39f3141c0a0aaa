"""Tests that need a GPU: ``pytest --pretend-gpu l4 -m gpu`` runs them on any machine."""

import pytest
import torch
from ranker import ITEMS, Ranker, counted, train

pytestmark = pytest.mark.gpu


@pytest.fixture
def seen() -> torch.Tensor:
    """Return the items that 64 users saw, on the GPU."""
    torch.manual_seed(0)
    return torch.randint(ITEMS, (64, 8)).cuda()


def test_scores_equal_those_of_the_cpu(seen: torch.Tensor) -> None:
    """Each tensor is on the GPU, and the values are right."""
    model = Ranker()
    expected = model(seen.cpu())
    torch.testing.assert_close(model.cuda()(seen).cpu(), expected)


def test_items_of_each_group_are_counted(seen: torch.Tensor) -> None:
    """The GPU has each operator for the dtypes that it gets."""
    groups = torch.arange(ITEMS, device="cuda")[:, None] % 3 == torch.arange(3, device="cuda")
    assert counted(seen, groups.long()).sum(1).tolist() == [8] * 64


def test_training_keeps_nothing(seen: torch.Tensor) -> None:
    """More steps keep no more memory."""
    model = Ranker().cuda()
    kept = []
    for steps in (2, 6):
        losses = train(model, seen, steps)
        kept.append(torch.cuda.memory_allocated())
        assert losses[-1] < losses[0]
    assert kept[0] == kept[1]


def test_a_step_of_all_users_fits() -> None:
    """A step of 4,096 users fits a hundredth of the GPU."""
    torch.cuda.set_per_process_memory_fraction(0.01)  # 226 MiB of an L4
    try:
        train(Ranker().cuda(), torch.randint(ITEMS, (4096, 8), device="cuda"), steps=1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
