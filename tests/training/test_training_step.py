import pytest
import torch

from harness.schema.workload import Workload
from harness.training import data, training_step
from harness.training.module_step import BuiltStep, run_step


def built(**fields: object) -> BuiltStep:
    workload = Workload(width=16, in_features=12, classes=4, batch=10, **fields)  # type: ignore[arg-type]
    return training_step.build(workload, data.source(workload))


def gradients(case: BuiltStep) -> list[torch.Tensor]:
    run_step(case)
    return [p.grad for p in case.model.parameters() if p.grad is not None]


@pytest.mark.parametrize("optimizer", ["none", "sgd", "momentum", "adam", "adamw"])
def test_a_step_learns_unless_there_is_no_optimizer(optimizer: str) -> None:
    case = built(optimizer=optimizer)
    before = [p.detach().clone() for p in case.model.parameters()]
    run_step(case)
    idle = built(mode="inference")
    run_step(idle)
    assert (idle.y, idle.model.training) == (None, False)
    assert all(p.grad is None for p in idle.model.parameters())
    moved = any(not torch.equal(a, b) for a, b in zip(before, case.model.parameters(), strict=True))
    assert moved == (optimizer != "none")


@pytest.mark.parametrize("fields", [{"checkpoint": 2}, {"checkpoint": 3}])
def test_checkpointing_changes_no_gradient(fields: dict[str, object]) -> None:
    for model in ("mlp", "mlp-scratch"):
        plain = gradients(built(depth=3, model=model))
        other = gradients(built(depth=3, model=model, **fields))
        torch.testing.assert_close(other, plain)


def test_equal_micro_batches_add_up_to_the_whole_batch() -> None:
    torch.testing.assert_close(gradients(built(accumulate=5)), gradients(built()))
