"""The trace of networks nobody here wrote, against PyTorch's own tracker, to the byte."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils.checkpoint import checkpoint

from harness.measurement.module_trace import ModuleTrace, NestedTraceError, trace


@dataclass
class Case:
    model: nn.Module
    x: Tensor
    y: Tensor
    optimizers: list[torch.optim.Optimizer] = field(default_factory=list)

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(self.x).flatten(0, -2), self.y.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        del loss
        for optimizer in self.optimizers:
            optimizer.step()


def resnet() -> Case:
    model = torchvision.models.resnet18(num_classes=10)
    return Case(model, torch.zeros(4, 3, 32, 32), torch.zeros(4, dtype=torch.int64))


def rows(model: nn.Module, batch: int = 6, features: int = 16, lead: tuple[int, ...] = ()) -> Case:
    labels = torch.zeros(batch, *lead, dtype=torch.int64)
    return Case(model, torch.ones(batch, *lead, features), labels)


class Shared(nn.Module):
    """Runs one layer twice and uses its weight a third time."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.layer(self.layer(x).relu_())
        return hidden @ self.layer.weight


class Segments(nn.Module):
    """Recomputes its blocks in the backward pass."""

    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.first = nn.Linear(16, 16)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16)) for _ in range(3)
        )
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.first(x)
        for block in self.blocks:
            hidden = checkpoint(block, hidden, use_reentrant=self.reentrant)
        return hidden


class Words(nn.Module):
    """Looks up words, normalises, drops out."""

    def __init__(self, *, sparse: bool = False) -> None:
        super().__init__()
        self.table = nn.Embedding(100, 24, sparse=sparse)
        self.norm = nn.LayerNorm(24)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(24, 5)

    def forward(self, words: Tensor) -> Tensor:
        logits: Tensor = self.out(self.drop(self.norm(self.table(words))))
        return logits


def words(model: nn.Module) -> Case:
    return Case(model, torch.arange(35).reshape(5, 7), torch.zeros(5, 7, dtype=torch.int64))


def frozen() -> Case:
    case = rows(nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 8)))
    case.model[0].requires_grad_(False)  # type: ignore[index]
    return case


def encoder() -> Case:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    return rows(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), lead=(7,))


def two_optimizers() -> Case:
    case = rows(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8)))
    first, last = case.model[0], case.model[2]  # type: ignore[index]
    case.optimizers = [
        torch.optim.SGD(first.parameters(), 0.1, momentum=0.9),
        torch.optim.SGD(last.parameters(), 0.1),
    ]
    return case


CASES: dict[str, Callable[[], Case]] = {
    "embedding": lambda: words(Words()),
    "sparse gradients": lambda: words(Words(sparse=True)),
    "shared weights": lambda: rows(Shared()),
    "checkpoint": lambda: rows(Segments(reentrant=False)),
    "checkpoint, reentrant": lambda: rows(Segments(reentrant=True)),
    "frozen": frozen,
    "encoder": encoder,
    "two optimizers": two_optimizers,
    "resnet18": resnet,
}


def prepared(build: Callable[[], Case]) -> Case:
    """Return a case whose gradients and optimizer state exist, as in every step but the first."""
    torch.manual_seed(0)
    case = build()
    if not case.optimizers:
        trained = [p for p in case.model.parameters() if p.requires_grad]
        case.optimizers = [torch.optim.SGD(trained, 0.1)]
    case.step()
    return case


def traced(case: Case) -> ModuleTrace:
    with trace(case.model, optimizer=case.optimizers, inputs=(case.x, case.y)) as result:
        case.step()
    return result


@pytest.mark.exact
@pytest.mark.parametrize("name", ["embedding", "encoder", "two optimizers"])
def test_the_peak_is_mem_trackers(name: str) -> None:
    """Of networks whose kernels take no scratch, which is below where MemTracker looks."""
    case = prepared(CASES[name])
    peak = traced(case).peak_live_bytes
    tracker = MemTracker()
    tracker.track_external(case.model, *case.optimizers, case.x, case.y)
    with tracker:
        case.step()
    assert peak == tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]


@pytest.mark.parametrize("name", CASES)
def test_the_table_of_the_peak_adds_up_and_nothing_is_left_over(name: str) -> None:
    """After a step as before it: parameters, gradients, state, input; the ends of old ones."""
    case = prepared(CASES[name])
    result = traced(case)
    blocks = result.trace.alive_at_peak()
    sizes_at_peak = [block.event.size_bytes for block in blocks]
    assert sum(sizes_at_peak) == result.peak_live_bytes
    assert sizes_at_peak == sorted(sizes_at_peak, reverse=True)
    assert sum(result.categories_at_peak().values()) == result.peak_live_bytes
    assert list(result.trace.phase_peaks()) == ["build", "forward", "backward", "optimizer"]
    held = [*case.model.parameters(), *case.model.buffers(), case.x, case.y]
    held += [p.grad for p in case.model.parameters() if p.grad is not None]
    for optimizer in case.optimizers:
        held += [v for s in optimizer.state.values() for v in s.values() if v is not None]
    sizes: dict[int, int] = {}
    for tensor in held:
        for part in (tensor._indices(), tensor._values()) if tensor.is_sparse else (tensor,):
            storage = part.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
    assert result.trace.live_bytes[-1] == sum(sizes.values())


def test_the_categories_are_those_of_the_facts() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Sigmoid(), nn.Linear(16, 4))
    optimizer = torch.optim.Adam(model.parameters())
    x = torch.ones(32, 8)

    def step() -> None:
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()

    step()
    with trace(model, optimizer=optimizer, inputs=x) as result:
        step()
    weights = 4 * (8 * 16 + 16 + 16 * 4 + 4 + 2 * 16)
    taken: Counter[str] = Counter()
    for event in result.trace.events:
        taken[event.category] += max(0, event.size_bytes)
    assert taken["parameter"] == weights + 4 * 32 + 8  # buffers, and the number of batches
    assert taken["optimizer_state"] == 2 * weights + 4 * 6  # six step counters
    assert taken["input"] == 4 * 32 * 8
    assert taken["gradient"] == 2 * weights  # those from before, and those of the step
    # The products of Linear 0 (kept by the norm), of the norm's own statistics, of Sigmoid.
    assert taken["activation"] == 4 * 32 * 16 * 2 + 2 * 4 * 16


def test_steps_and_phases_are_found() -> None:
    case = prepared(CASES["two optimizers"])
    with trace(case.model, optimizer=case.optimizers) as result:
        case.step()
        case.step()
    order = dict.fromkeys((event.step, event.phase) for event in result.trace.events)
    step = ["forward", "backward", "optimizer"]
    expected = [(0, "build"), (0, "optimizer"), *((1, p) for p in step), *((2, p) for p in step)]
    assert [*order] == expected
    assert result.trace.measured_step == 2


@pytest.mark.parametrize("keeps", [False, True])
def test_what_is_kept_after_each_step_is_growth_with_its_module(keeps: bool) -> None:
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
    optimizer, kept = torch.optim.Adam(net.parameters()), []
    with trace(net, optimizer=optimizer) as result:
        for _ in range(12):
            out = net(torch.ones(16, 64))
            optimizer.zero_grad()
            out.square().mean().backward()
            optimizer.step()
            kept += [out.detach()] * keeps
    growth = result.report.growth
    assert growth is not None
    assert (growth.kind, growth.per_step_bytes) == (("leak", 512) if keeps else ("plateau", 0))
    assert [place for place, _ in growth.places] == ["2: aten::addmm"] * keeps
    assert ("\nGrowth: 512 B more a step" if keeps else "\nNo growth:") in result.report.summary()


def test_gradient_accumulation_is_one_step_and_plain_backward_passes_are_several() -> None:
    case = prepared(CASES["frozen"])
    for steps, optimizers in ((2, []), (1, case.optimizers)):
        with trace(case.model) as result:
            for _ in range(2):
                case.model(case.x).sum().backward()
            for optimizer in optimizers:
                optimizer.step()
        assert result.trace.measured_step == steps


def test_what_an_older_input_was_is_found_when_it_reaches_the_network() -> None:
    model, x = nn.Linear(4, 3), torch.ones(5, 4)
    with trace(model) as result:
        model(x)
        del x
    rows = [(e.size_bytes, e.category) for e in result.trace.events if e.category == "input"]
    assert rows == [(80, "input"), (-80, "input")]


def test_the_model_is_as_before_whatever_happens() -> None:
    model = nn.Sequential(nn.Linear(3, 5))
    with pytest.raises(KeyError), trace(model):
        raise KeyError
    assert all("forward" not in vars(module) for module in model.modules())
    with trace(model) as again:
        model(torch.ones(1, 3))
    assert again.peak_live_bytes > 0


def test_the_gradient_that_an_input_has_from_before_counts() -> None:
    model, x = nn.Linear(8, 4), torch.ones(16, 8, requires_grad=True)
    model(x).sum().backward()
    assert x.grad is not None
    with trace(model, inputs=[x]) as traced:
        model(x).sum().backward()
    first = traced.trace.events[0]
    opening = sum(e.size_bytes for e in traced.trace.events if e.operator == first.operator)
    weights = 4 * (8 * 4 + 4)
    assert opening == 2 * weights + 2 * 4 * 16 * 8, "weights and input, each with its gradient"


def test_a_trace_inside_a_trace_is_an_error() -> None:
    model = nn.Linear(8, 4)
    with trace(model) as outer:
        with pytest.raises(NestedTraceError, match="running already"), trace(model):
            pass
        model(torch.ones(2, 8)).sum().backward()
    assert outer.peak_live_bytes > 0, "the outer one is not lost"
