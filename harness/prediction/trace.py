"""The event sequence of a workload's build and steps, derived without running anything."""

from harness.events import Trace
from harness.prediction.formula import input_bytes, label_bytes, micro_batches
from harness.prediction.matmul import Scratch, UnknownScratchError, scratch_of
from harness.prediction.network import Network
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
    tape = Tape()
    network = Network(tape, workload, _scratch(workload))
    network.build()
    tape.take(input_bytes(workload), "aten::empty", "input")
    if workload.mode == "inference":
        tape.next_step()
        tape.begin("forward")
        network.predict(workload.batch)
        return tape.trace()
    tape.take(label_bytes(workload), "aten::empty", "input")
    optimizer = Optimizer(
        tape, workload.optimizer, workload.foreach, network.parameter_sizes, network.element_bytes
    )
    tape.next_step()
    start = tape.here()
    _forward_backward(tape, workload, network)
    stop = tape.here()
    tape.begin("optimizer")
    optimizer.step()
    # In the second step gradients and optimizer state exist; the passes are the first's.
    tape.next_step()
    network.zero_grad()
    tape.repeat(start, stop)
    optimizer.step()
    return tape.trace()


def _check(workload: Workload) -> None:
    if workload.device != "cpu":
        raise NotFollowedError(f"device {workload.device}: only the CPU's allocator is followed")
    if workload.autocast is not None:
        raise NotFollowedError(f"autocast {workload.autocast}: its casts are not followed")
    if workload.checkpoint:
        raise NotFollowedError("checkpoint: recomputed segments are not followed")


def _scratch(workload: Workload) -> Scratch | None:
    try:
        return scratch_of(workload.dtype, workload.threads)
    except UnknownScratchError as error:
        raise NotFollowedError(f"dtype {workload.dtype}: {error}") from error


def _forward_backward(tape: Tape, workload: Workload, network: Network) -> None:
    for rows in micro_batches(workload.batch, workload.accumulate):
        tape.begin("forward")
        held, logits = network.forward(rows)
        loss = network.loss(rows, logits)
        tape.begin("backward")
        network.backward(rows, held, loss, workload.accumulate)
