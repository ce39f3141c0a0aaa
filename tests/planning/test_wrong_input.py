"""Input that makes no sense, or that cannot be predicted: one clear line, or the right answer."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from harness.prediction.module.module_prediction import (
    ModulePredictionError,
    UnsupportedModuleError,
)
from harness.prediction.module.simulated_gpu import SEVERAL
from torch import Tensor, nn

import harness
from harness.cli.app import main
from harness.schema.argument_checks import ArgumentError

WIDTH = 16
NO_WORKLOAD: Any = {"depth": 3}
ASKED: dict[str, Any] = {"inputs": (WIDTH,), "method": "rules"}
PLACES: list[dict[str, Any]] = [{}, {"gpu": "l4"}]


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU(), nn.Linear(8, 4))


def predicted(made: Callable[[], nn.Module] = build, **asked: Any) -> Any:
    return harness.predict(made, 4, **{**ASKED, **asked})


class Layer(nn.Module):
    """A linear layer whose output a function looks at."""

    def __init__(self, look: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 4)
        self.look = look

    def forward(self, x: Tensor) -> Tensor:
        return self.look(self.linear(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 0}, "batch must be a whole number of at least 1, got 0"),
        ({"batch": True}, "batch must be"),
        ({"mode": "eval"}, "did you mean inference"),
        ({"device": "gpu"}, "device must be cpu or cuda, got 'gpu'"),
        ({"device": "cpu", "gpu": "l4"}, "device must be cuda"),
        ({"autocast": "float64"}, "autocast must be float16 or bfloat16"),
        ({"inputs": 3}, "inputs must be a function"),
        ({"inputs": None}, "give input_shape"),
    ],
)
def test_a_wrong_argument_is_one_clear_line(change: dict[str, Any], message: str) -> None:
    asked = {"batch": 2, "inputs": (WIDTH,), **change}
    with pytest.raises(ModulePredictionError, match=message) as caught:
        harness.predict(build, **asked)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", PLACES)
def test_a_network_that_exists_before_is_refused(place: dict[str, Any]) -> None:
    """The prediction would change it: its tensors would lose their memory."""
    network = build()
    with pytest.raises(ModulePredictionError, match="got one that existed before"):
        predicted(lambda: network, **place)
    assert all(parameter.device.type == "cpu" for parameter in network.parameters())


def test_a_module_in_place_of_its_builder_is_refused() -> None:
    with pytest.raises(ModulePredictionError, match="build=lambda: Linear"):
        harness.predict(nn.Linear(2, 2), 2, inputs=(2,))
    with pytest.raises(ArgumentError, match="Workload"):
        harness.predict(NO_WORKLOAD)


@pytest.mark.parametrize(
    "made", [lambda: build().cuda(), lambda: build().to("cuda:0"), lambda: build().to("cuda")]
)
def test_a_network_that_moves_itself_to_the_gpu(made: Callable[[], nn.Module]) -> None:
    """The right answer for CUDA; for the CPU one line that says how to ask."""
    assert predicted(made, gpu="l4").peak_live_bytes == predicted(gpu="l4").peak_live_bytes
    with pytest.raises(ModulePredictionError, match="say device='cuda', or name a GPU") as caught:
        predicted(made)
    assert "\n" not in str(caught.value)


def test_inputs_on_the_gpu() -> None:
    def inputs(batch: int) -> tuple[Tensor, Tensor]:
        return torch.empty(batch, WIDTH, device="cuda"), torch.zeros(batch, dtype=torch.int64)

    expected = predicted(gpu="l4").peak_live_bytes
    assert predicted(inputs=inputs, gpu="l4").peak_live_bytes == expected
    with pytest.raises(ModulePredictionError, match="say device='cuda', or name a GPU"):
        predicted(inputs=inputs)


def test_a_second_gpu_is_named_in_a_note() -> None:
    found = harness.predict(run=lambda: torch.zeros(3, device="cuda:1"))
    assert SEVERAL in found.notes
    assert SEVERAL not in harness.predict(run=lambda: torch.zeros(3, device="cuda:0")).notes


@pytest.mark.parametrize("place", PLACES)
def test_a_network_may_change_its_type(place: dict[str, Any]) -> None:
    """Again and again the same: conversions once failed where something held a weak reference."""

    def inputs(batch: int) -> tuple[Tensor, Tensor]:
        x = torch.empty(batch, WIDTH, dtype=torch.bfloat16)
        return x, torch.zeros(batch, dtype=torch.int64)

    found = [predicted(lambda: build().bfloat16(), inputs=inputs, **place) for _ in range(3)]
    assert len({one.peak_live_bytes for one in found}) == 1
    weights = predicted(**place).categories_at_peak()["parameter"]
    assert found[0].categories_at_peak()["parameter"] * 2 == weights
    with pytest.raises(ModulePredictionError, match="must have the same dtype, got bfloat16, floa"):
        predicted(lambda: build().bfloat16(), **place)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("look", "operator"),
    [
        (lambda y: y[y > 0].sum(), "nonzero"),
        (lambda y: y[y.nonzero(as_tuple=True)].sum(), "nonzero"),
        (lambda y: y.masked_select(y > 0).sum(), "masked_select"),
        (lambda y: torch.unique(y).sum(), "_unique2"),
    ],
)
def test_what_depends_on_values_is_unsupported_with_the_operator(
    look: Callable[[Tensor], Tensor], operator: str, place: dict[str, Any]
) -> None:
    with pytest.raises(UnsupportedModuleError, match=f"unsupported: aten.*{operator}") as caught:
        predicted(lambda: Layer(look), loss="sum", **place)
    assert "depends on the values of a tensor" in str(caught.value)


def test_a_boolean_mask_that_keeps_the_shape_is_predicted() -> None:
    def assigned(y: Tensor) -> Tensor:
        y = y.clone()
        y[y > 0] = 0
        return y

    for place in PLACES:
        filled = predicted(lambda: Layer(lambda y: y.clone().masked_fill_(y > 0, 0)), **place)
        assert predicted(lambda: Layer(assigned), **place).saved_bytes == filled.saved_bytes


@pytest.mark.parametrize("place", PLACES)
def test_ctc_loss_is_unsupported_by_name(place: dict[str, Any]) -> None:
    def loss(output: Tensor, _: object) -> Tensor:
        log_probabilities = output.log_softmax(-1).transpose(0, 1)
        targets = torch.ones(4, 5, dtype=torch.int64, device=output.device)
        lengths = torch.full((4,), 30), torch.full((4,), 5)
        return nn.functional.ctc_loss(log_probabilities, targets, *lengths)

    with pytest.raises(UnsupportedModuleError, match="_ctc_loss"):
        predicted(lambda: nn.Linear(8, 12), inputs=(30, 8), loss=loss, **place)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler itself
def test_a_compiled_network_is_unsupported() -> None:
    with pytest.raises(UnsupportedModuleError, match="before it is compiled"):
        predicted(lambda: torch.compile(build()), gpu="l4")  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": (WIDTH + 1,)}, "the step fails: RuntimeError: .*4x?.*17"),
        ({"made": nn.Linear}, "the step fails: TypeError: .*missing 2 required"),
        ({"made": lambda: None}, "must return a torch.nn.Module, got a NoneType"),
    ],
)
def test_a_step_that_fails_is_one_line(
    changes: dict[str, Any],
    message: str,
    place: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(ModulePredictionError, match=message) as told:
        predicted(**changes, **place)
    assert "\n" not in str(told.value)
    assert not caplog.records


def test_a_run_that_fails_is_one_line() -> None:
    with pytest.raises(ModulePredictionError, match="the run fails: IndexError: index 5"):
        harness.predict(run=lambda: torch.zeros(3, device="cuda")[5])


NETWORK = """
from torch import nn
class Net(nn.Sequential):
    def __init__(self): super().__init__(nn.Linear(16, 4))
net = Net()
def moved(): return Net().cuda()
def masked():
    class Masked(Net):
        def forward(self, x): return x[x > 0]
    return Masked()
"""


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ("Net --batch 0", 2, "batch must be a whole number of at least 1, got 0"),
        ("Net --accumulate 0", 2, "accumulate must be"),
        ("Net --mode eval", 2, "--mode must be one of train, inference, got 'eval'"),
        ("Net --device cuda:0", 2, "--device must be one of cpu, cuda"),
        ("net", 2, "got one that existed before"),
        ("moved", 2, "say device='cuda', or name a GPU"),
        ("moved --gpu t4", 0, "fits on t4"),
        ("masked --mode inference", 3, "unsupported: aten.nonzero"),
        ("Net --input 9", 2, "the step fails"),
    ],
)
def test_the_command_says_it_in_one_line(
    flags: str,
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "wrong_input.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    name, *others = flags.split()
    shape = [] if "--input" in others else ["--input", "16"]
    assert main(["predict", f"wrong_input.py:{name}", *shape, *others]) == code
    said = capfd.readouterr()
    assert message in (said.out if code in (0, 3) else said.err)
    assert code == 0 or len((said.out + said.err).strip().splitlines()) == 1
