"""The events of the cross-entropy and of the division of a micro-batch's loss."""

from typing import NamedTuple

from harness.prediction.mlp.activations import CAST, NODE
from harness.prediction.mlp.trace_writer import TraceWriter
from harness.schema.events import Event

LOG_SOFTMAX = "aten::cross_entropy_loss/aten::log_softmax/aten::_log_softmax"
NLL = "aten::cross_entropy_loss/aten::nll_loss_nd/aten::nll_loss/aten::nll_loss_forward"
_ONES = "aten::ones_like/aten::empty_like/aten::empty_strided"
_DIV_BACKWARD = f"{NODE}DivBackward0/DivBackward0/aten::div"
_NLL_BACKWARD = f"{NODE}NllLossBackward0/NllLossBackward0/aten::nll_loss_backward"
SOFTMAX_BACKWARD = f"{NODE}LogSoftmaxBackward0/LogSoftmaxBackward0/aten::_log_softmax_backward_data"


class Loss(NamedTuple):
    """Blocks that the loss of one (micro-)batch leaves for its backward pass."""

    log_softmax: Event
    loss: Event
    total_weight: Event


class Root(NamedTuple):
    """Blocks that a backward pass holds until it ends, in the order in which they are freed."""

    gradient: Event
    """The gradient of the logits, which the last layer consumes."""
    until_end: tuple[Event, ...]


def forward(writer: TraceWriter, size_bytes: int, element_bytes: int, prefix: str = "") -> Loss:
    """Write the loss of logits of ``size_bytes``."""
    log_softmax = writer.allocate(size_bytes, prefix + LOG_SOFTMAX, "activation")
    loss = writer.allocate(element_bytes, prefix + NLL)
    total_weight = writer.allocate(element_bytes, prefix + NLL, "activation")
    return Loss(log_softmax, loss, total_weight)


def backward(writer: TraceWriter, loss: Loss, element_bytes: int, parts: int) -> Root:
    """Write the backward pass down to the logits; see ``nll_backward`` for ``parts``."""
    size_bytes = loss.log_softmax.size_bytes
    of_log, until_end = nll_backward(writer, loss.loss, size_bytes, element_bytes, parts)
    writer.free(loss.total_weight)
    of_logits = writer.allocate(size_bytes, SOFTMAX_BACKWARD)
    writer.free(of_log, loss.log_softmax)
    return Root(of_logits, until_end)


def nll_backward(
    writer: TraceWriter, loss: Event, size_bytes: int, element_bytes: int, parts: int
) -> tuple[Event, tuple[Event, ...]]:
    """Write the backward pass down to the log-softmax; return its gradient and what stays.

    The gradient of the loss, ones, lives until the pass ends; so does the loss itself, which
    the step holds. With several ``parts`` the loss is divided by their number first, a wrapped
    number that is kept for the backward pass.
    """
    allocate, free = writer.allocate, writer.free
    if parts == 1:
        ones = allocate(element_bytes, _ONES)
        return allocate(size_bytes, _NLL_BACKWARD), (ones, loss)
    number = writer.take_on_host(8, "")
    cast = writer.take_on_host(element_bytes, f"aten::div{CAST}")
    quotient = allocate(element_bytes, "aten::div")
    free(cast)
    ones = allocate(element_bytes, _ONES)
    cast = writer.take_on_host(element_bytes, _DIV_BACKWARD + CAST)
    seed = allocate(element_bytes, _DIV_BACKWARD)
    free(cast, number)
    of_log = allocate(size_bytes, _NLL_BACKWARD)
    free(seed)
    return of_log, (ones, quotient, loss)
