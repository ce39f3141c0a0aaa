import torch
from torch import nn

from harness.instruments.forward_hooks import on_stack, wrapped_forwards
from harness.instruments.saved_tensors import SavedTensors


def total(saved: SavedTensors) -> int:
    return sum(item.size_bytes for item in saved.held())


def test_a_tensor_saved_by_two_operators_counts_once() -> None:
    x = torch.ones(100, requires_grad=True)
    with SavedTensors().watch() as saved:
        y = x.exp()  # keeps its result
        z = y * y  # keeps it again, twice
    assert total(saved) == 400
    del z


def test_a_view_counts_with_its_whole_storage() -> None:
    base = torch.ones(100)
    weight = torch.ones(10, requires_grad=True)
    with SavedTensors().watch() as saved:
        product = weight * base[:10]  # keeps the ten elements, so all hundred stay
    assert [item.size_bytes for item in saved.held()] == [400]
    del product


def test_what_autograd_dropped_again_does_not_count() -> None:
    x = torch.ones(100, requires_grad=True)
    with SavedTensors().watch() as saved:
        x.exp()
        assert total(saved) == 0
        kept = x.exp()
        assert total(saved) == 400
        torch.autograd.backward(kept.sum())
        assert total(saved) == 0


def test_storages_belong_to_the_module_that_saved_them_first() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.Sigmoid(), nn.Linear(5, 2))
    with SavedTensors().watch() as saved, wrapped_forwards(model, on_stack(saved.modules)):
        out = model(torch.ones(7, 3))
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    sizes = {s.module: s.size_bytes for s in saved.held() if s.address not in weights}
    assert sizes == {"0": 7 * 3 * 4, "1": 7 * 5 * 4}
    del out
