"""Closed formulas for the memory of a workload.

Each function returns whole bytes (derivations: docs/memory-model/closed-forms.md). ``B`` is the
number of rows in the largest micro-batch, ``e`` is the bytes per element, and ``h`` contains the
hidden widths.
"""

from collections.abc import Iterator
from itertools import pairwise

from harness.prediction.mlp.activations import activation_of
from harness.schema.workload import Workload

DTYPE_BYTES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}

LABEL_BYTES = 8
"""Bytes of one label (int64)."""

STEP_BYTES = 4
"""Bytes of Adam's step counter; each parameter has one float32 counter."""

TRACKED_BYTES = 8
"""Bytes of batch normalization's counter of batches (int64)."""

ROOT = "(network)"
"""Module name of the whole network."""


def parameter_count(workload: Workload) -> int:
    """Return the number of parameters; linear layers have ``sum((in + 1) * out)``."""
    sizes = (workload.in_features, *workload.widths, workload.classes)
    maps = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes))
    return maps if workload.norm == "none" else maps + 2 * sum(workload.widths)


def parameter_bytes(workload: Workload) -> int:
    """Return the bytes of all parameters."""
    return parameter_count(workload) * DTYPE_BYTES[workload.dtype]


def gradient_bytes(workload: Workload) -> int:
    """Return the bytes of all gradients: the bytes of the parameters in training, else 0."""
    return parameter_bytes(workload) if workload.mode == "train" else 0


def input_bytes(workload: Workload) -> int:
    """Return the bytes of the examples, ``batch * in * e``."""
    return workload.batch * workload.in_features * DTYPE_BYTES[workload.dtype]


def label_bytes(workload: Workload) -> int:
    """Return the bytes of the labels: ``8 * batch`` in training, else 0."""
    return LABEL_BYTES * workload.batch if workload.mode == "train" else 0


def batch_bytes(workload: Workload) -> int:
    """Return the bytes of one batch: examples and labels."""
    return input_bytes(workload) + label_bytes(workload)


def micro_batches(batch: int, parts: int) -> list[int]:
    """Return the numbers of rows in the micro-batches that ``Tensor.tensor_split`` makes."""
    small, larger = divmod(batch, parts)
    return [small + (number < larger) for number in range(parts)]


def saved_bytes(workload: Workload) -> int:
    """Return the bytes that autograd has saved at the end of the forward pass.

    With ReLU, float32 and one micro-batch: ``B * (4 * in + 8 + 4 * sum(h) + 4 * classes) + 4``.
    """
    return saved_input_bytes(workload) + saved_activation_bytes(workload)


def saved_input_bytes(workload: Workload) -> int:
    """Return the saved bytes that belong to the batch.

    Autograd saves examples for the first linear layer and labels for the loss. Micro-batches are
    views, so the whole batch is saved. Under autocast, a saved cast replaces the saved examples.
    """
    if workload.mode != "train":
        return 0
    return label_bytes(workload) if workload.autocast else batch_bytes(workload)


def saved_activation_bytes(workload: Workload) -> int:
    """Return the saved bytes without the batch: ``B * e * (copies * sum(h) + classes) + e``.

    ``copies`` is 1 if a hidden layer saves one tensor, 2 if its activation also saves its input,
    and 3 for the ReLU of ``MLPScratch``. A normalization adds its saved input and statistics.
    Dropout adds its mask; if the activation saves an output, dropout's output is also saved. With
    checkpointing, only the output of each segment is counted, once.
    """
    return sum(saved_by_module(workload).values()) - saved_input_bytes(workload)


def saved_by_module(workload: Workload) -> dict[str, int]:
    """Return the saved bytes by module; a tensor is counted for the first module that saves it.

    ``MLP`` is a ``Sequential``: linear layer i is module ``2*i``, and its activation is module
    ``2*i+1``. Normalizations and dropouts are additional modules. Bytes saved by ``MLPScratch``,
    checkpointing or the loss are counted for the whole network. Under autocast, the linear layers
    save casts of the examples and of every weight except the first. The loss is computed in
    float32.
    """
    if workload.mode != "train":
        return {}
    rows = max(micro_batches(workload.batch, workload.accumulate))
    saved: dict[str, int] = {}
    for module, size_bytes in _saved(workload, rows):
        name = ROOT if workload.model == "mlp-scratch" else module
        saved[name] = saved.get(name, 0) + size_bytes
    return saved


def _saved(workload: Workload, rows: int) -> Iterator[tuple[str, int]]:
    """Yield pairs of a module and the bytes that it saves, for ``rows`` examples."""
    element, on_cuda = DTYPE_BYTES[workload.autocast or workload.dtype], workload.device == "cuda"
    first = ROOT if workload.checkpoint else "0"
    yield (
        first,
        rows * workload.in_features * element if workload.autocast else input_bytes(workload),
    )
    if workload.checkpoint:
        yield from _saved_of_segments(workload, rows * element)
    else:
        modules, places = modules_per_layer(workload), _places(workload)
        statistic, mask = (max(element, 4), 1) if on_cuda else (element, element)
        for index, width in enumerate(workload.widths):
            for place in places:
                yield str(modules * index + place), rows * width * element
            if workload.norm != "none":
                size = 2 * statistic * (width if workload.norm == "batch" else rows)
                yield str(modules * index + 1), size
            if workload.dropout:
                yield str(modules * index + modules - 1), rows * width * mask
    if workload.autocast:
        sizes = (*workload.widths, workload.classes)
        for index, (fan_in, fan_out) in enumerate(pairwise(sizes), start=1):
            yield str(2 * index), fan_in * fan_out * element
    loss_element = DTYPE_BYTES["float32" if workload.autocast else workload.dtype]
    if workload.autocast and on_cuda:  # the log-softmax in the low type, and its cast
        yield ROOT, rows * workload.classes * element
    yield ROOT, label_bytes(workload) + (rows * workload.classes + 1) * loss_element


def _saved_of_segments(workload: Workload, column_bytes: int) -> Iterator[tuple[str, int]]:
    """Yield pairs of a module and the bytes of the segment output that it saves."""
    parts = workload.checkpoint
    for number in range(1, parts + 1):
        last = workload.depth * number // parts - 1
        module = str(modules_per_layer(workload) * workload.depth) if number == parts else ROOT
        yield module, workload.widths[last] * column_bytes


def modules_per_layer(workload: Workload) -> int:
    """Return the number of modules in one hidden layer of ``MLP``."""
    return 2 + (workload.norm != "none") + (workload.dropout > 0)


def _places(workload: Workload) -> tuple[int, ...]:
    """Return the module offset of each saved tensor in a hidden layer; 0 is the linear layer."""
    keeps = activation_of(workload.model, workload.activation).keeps
    normed, after = workload.norm != "none", modules_per_layer(workload)
    activation = 1 + normed
    count = {"nothing": 0, "output": 1, "input": 1, "operands": 2}[keeps]
    last = () if keeps == "output" and not workload.dropout else (after,)
    return (*[1] * normed, *[activation] * count, *last)
