"""Optimizers of PyTorch's own database (OptimInfo): plain, foreach, fused and capturable."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, cast

import torch
from torch.testing._internal.common_optimizers import (
    OptimizerInfo,
    _get_optim_inputs_including_global_cliquey_kwargs,
    optim_db,
)

from benchmarks.computed_values.comparison import (
    REFUSED_BY_CPU,
    Result,
    Tally,
    difference,
    is_computed,
    not_computed,
)

DTYPES = (torch.float32, torch.float64)
STEPS = 6


def cases() -> list[tuple[OptimizerInfo, torch.dtype]]:
    """Return the optimizers with each type of their parameters."""
    return [(info, dtype) for info in optim_db for dtype in DTYPES]


def name_of(info: OptimizerInfo) -> str:
    """Return the name of the optimizer's class."""
    return _class_of(info).__name__


def _class_of(info: OptimizerInfo) -> type[Any]:
    return cast("type[Any]", info.optim_cls)


def results(info: OptimizerInfo, dtype: torch.dtype, most: int) -> Iterator[Result]:
    """Yield one result for each implementation that the optimizer has on CUDA."""
    tallies: dict[str, Tally] = {}
    inputs = _get_optim_inputs_including_global_cliquey_kwargs(
        "cuda", dtype, info, skip=("differentiable",)
    )
    chosen_inputs = inputs[: max(most, 4)]
    for one in chosen_inputs:
        kwargs = dict(one.kwargs)
        chosen = [flag for flag in ("foreach", "fused") if kwargs.get(flag)]
        variants = [(chosen[0] if chosen else "plain", kwargs)]
        if info.has_capturable_arg and not chosen:
            variants.append(("capturable", {**kwargs, "capturable": True}))
        for kind, options in variants:
            tally = tallies.setdefault(kind, Tally(f"optimizer, {kind}"))
            _compare(info, dtype, options, one.desc, tally)
    for tally in tallies.values():
        yield tally.result(name_of(info), dtype, len(chosen_inputs), len(inputs))


def _compare(
    info: OptimizerInfo, dtype: torch.dtype, options: dict[str, object], label: str, tally: Tally
) -> None:
    plain = {"capturable": False, "foreach": False, "fused": False, "differentiable": False}
    on_cpu = {key: plain.get(key, _moved(value, "cpu")) for key, value in options.items()}
    try:
        want = _trained(info, dtype, on_cpu, "cpu")
    except Exception:
        tally.leave_out(REFUSED_BY_CPU)
        return
    try:
        got = _trained(info, dtype, {k: _moved(v, "cuda") for k, v in options.items()}, "cuda")
    except Exception as error:
        tally.add("error", f"{label}: {type(error).__name__}: {' '.join(str(error).split())}"[:200])
        return
    if not is_computed(got):
        tally.add("unknown", f"{label}: not computed: {', '.join(not_computed())}")
        return
    text = difference(want, got)
    tally.add("differ" if text else "equal", f"{label}: {text}" if text else "")


def _moved(value: object, device: str) -> object:
    return value.clone().to(device) if isinstance(value, torch.Tensor) else deepcopy(value)


def _trained(
    info: OptimizerInfo, dtype: torch.dtype, options: dict[str, object], device: str
) -> list[torch.Tensor]:
    """Return the parameters of a small network and its losses after some steps."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    x, y = torch.randn(16, 6), torch.randn(16, 3)
    model = model.to(device, dtype)
    x, y = x.to(device, dtype), y.to(device, dtype)
    if info.only_supports_sparse_grads:
        return _trained_sparse(info, dtype, options, device)
    parameters = list(model.parameters())
    if name_of(info) == "Muon":
        parameters = [one for one in parameters if one.dim() == 2]
    optimizer = _class_of(info)(parameters, **options)
    losses = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        return loss

    for _ in range(STEPS):
        losses.append(closure().detach())
        optimizer.step(closure if info.step_requires_closure else None)
    return [*losses, *(one.detach() for one in parameters)]


def _trained_sparse(
    info: OptimizerInfo, dtype: torch.dtype, options: dict[str, object], device: str
) -> list[torch.Tensor]:
    table = torch.nn.Embedding(10, 4, sparse=True).to(device, dtype)
    optimizer = _class_of(info)(table.parameters(), **options)
    rows = torch.tensor([1, 3, 3, 7]).to(device)
    for _ in range(STEPS):
        optimizer.zero_grad()
        table(rows).square().sum().backward()
        optimizer.step()
    return [table.weight.detach()]
