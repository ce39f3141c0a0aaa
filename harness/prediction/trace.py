"""The event sequence of a workload's build and steps, derived without running anything."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from harness.events import Trace
from harness.prediction import autocast, network
from harness.prediction.autocast import AutocastLayers
from harness.prediction.autocast_by_hand import AutocastByHand, AutocastByHandLayers
from harness.prediction.checkpoint import Checkpointed
from harness.prediction.formula import input_bytes, label_bytes, micro_batches
from harness.prediction.kernels import CpuKernels, Kernels
from harness.prediction.layers import Layers
from harness.prediction.matmul import Scratch, UnknownScratchError, scratch_of
from harness.prediction.network import Passes, Plain
from harness.prediction.optimizers import Optimizer
from harness.prediction.tape import Tape
from harness.workload import Workload


class NotFollowedError(ValueError):
    """The events of this workload cannot be told exactly; the message says why."""


def predict_trace(workload: Workload) -> Trace:
    """Return the trace of the build and two steps (one in inference), as it would be measured.

    Addresses are running numbers of blocks. Time and size are linear in depth.

    Raises:
        NotFollowedError: the workload has a part that is not followed here.

    """
    _check(workload)
    with _collection_paused():
        return _write(workload)


@contextmanager
def _collection_paused() -> Iterator[None]:
    """Keep the garbage collector from walking the growing list of events: half of the time.

    Nothing that is made here refers back to itself.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _write(workload: Workload) -> Trace:
    tape = Tape()
    layers = _layers(tape, workload, CpuKernels(tape, _scratch(workload)))
    layers.build()
    tape.take(input_bytes(workload), "aten::empty", "input")
    if workload.mode == "train":
        tape.take(label_bytes(workload), "aten::empty", "input")
    if workload.mode == "inference":
        tape.next_step()
        tape.begin("forward")
        network.predict(layers, workload.batch)
        return tape.trace()
    _train(tape, layers, workload)
    return tape.trace()


def _train(tape: Tape, layers: Layers, workload: Workload) -> None:
    """Write two training steps."""
    passes = _passes(layers, workload)
    optimizer = Optimizer(
        tape,
        workload.optimizer,
        uses_foreach(workload),
        layers.parameter_sizes,
        layers.parameter_element_bytes,
    )
    tape.next_step()
    start = tape.here()
    for rows in micro_batches(workload.batch, workload.accumulate):
        network.train(layers, passes, rows, workload.accumulate)
    stop = tape.here()
    tape.begin("optimizer")
    optimizer.step()
    # In the second step gradients and optimizer state exist; the passes are the first's.
    tape.next_step()
    layers.zero_grad()
    tape.repeat(start, stop)
    optimizer.step()


def uses_foreach(workload: Workload) -> bool:
    """Return whether the optimizer's multi-tensor form runs.

    "auto" means so on CUDA alone (torch/optim/optimizer.py, ``_default_to_fused_or_foreach``).
    """
    return workload.foreach == "on" or (workload.foreach, workload.device) == ("auto", "cuda")


def _layers(tape: Tape, workload: Workload, kernels: Kernels) -> Layers:
    kind = Layers
    if workload.autocast:
        kind = AutocastByHandLayers if workload.model == "mlp-scratch" else AutocastLayers
    return kind(tape, workload, kernels)


def _passes(layers: Layers, workload: Workload) -> Passes:
    if isinstance(layers, AutocastByHandLayers):
        return AutocastByHand(layers)
    if workload.checkpoint:
        return Checkpointed(layers, workload.checkpoint)
    return Plain(layers)


def _check(workload: Workload) -> None:
    if workload.device != "cpu":
        raise NotFollowedError(f"device {workload.device}: only the CPU's allocator is followed")
    if workload.norm != "none" or workload.dropout:
        raise NotFollowedError("norm and dropout: not followed yet")
    if workload.autocast is not None and not autocast.is_followed(workload):
        raise NotFollowedError(f"autocast {workload.autocast}: {autocast.FOLLOWED}")


def _scratch(workload: Workload) -> Scratch | None:
    dtype = workload.autocast or workload.dtype
    try:
        return scratch_of(dtype, workload.threads)
    except UnknownScratchError as error:
        raise NotFollowedError(f"dtype {dtype}: {error}") from error
