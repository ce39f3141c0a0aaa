"""The training loop of a published run, with the steps of its script, on a given device."""

import gc
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.witnesses.sizes import CrashedRunError, Sizes


@dataclass(frozen=True, kw_only=True)
class Training:
    """A network and its training with Adam in float32.

    Attributes:
        network: function that makes the network.
        shape: shape of one example.
        classes: number of outputs of the network.
        batch: examples in a step.
        batches: sizes of the batches that decide the peak, in their order.
        evaluated: sizes of the batches that are evaluated after training.
        summary_shape: shape of the input with which torchsummary calls the network before.
        binary: whether the loss is ``BCEWithLogitsLoss``.
        reshapes: whether the script reshapes labels for this loss.
    """

    network: Callable[[], nn.Module]
    shape: tuple[int, ...]
    classes: int
    batch: int
    batches: tuple[int, ...]
    evaluated: tuple[int, ...] = ()
    summary_shape: tuple[int, ...]
    binary: bool = False
    reshapes: bool = True

    def loss(self) -> nn.Module:
        """Return the loss module."""
        return nn.BCEWithLogitsLoss() if self.binary else nn.CrossEntropyLoss()

    def example(self, rows: int, device: str = "cpu") -> tuple[Tensor, Tensor]:
        """Return a batch of the loader's shapes, without values."""
        labels = torch.zeros(rows, dtype=torch.int64, device=device)
        return torch.empty(rows, *self.shape, device=device), labels

    def lost(self, criterion: nn.Module, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the loss; PyTorch raises ``ValueError`` if the labels have the wrong shape."""
        if self.binary and self.reshapes:
            labels = labels.view(-1, 1).float()
        loss: Tensor = criterion(outputs, labels)
        return loss


def peaks_on_cuda(training: Training) -> Sizes:
    """Train on the GPU of this process, from an empty allocator, and return the peaks."""
    emptied()
    train(training, "cuda")
    return peaks()


def emptied() -> None:
    """Empty the allocator of this process and reset its peaks."""
    gc.collect()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def hasten() -> None:
    """Turn off random values for parameters, and cuDNN's timing of all engines."""
    for name in ("normal_", "uniform_", "erfinv_"):
        setattr(Tensor, name, lambda tensor, *_, **__: tensor)
    setattr(nn.init, "trunc_normal_", lambda tensor, *_, **__: tensor)  # noqa: B010 (draws anew)
    setattr(type(torch.backends.cudnn), "benchmark", False)  # noqa: B010 (a script sets another)


def peaks() -> Sizes:
    """Return the peaks of the allocator of this process."""
    return {
        "allocated": torch.cuda.max_memory_allocated(),
        "reserved": torch.cuda.max_memory_reserved(),
    }


def train(training: Training, device: str) -> None:
    """Train as the published script does.

    Raises:
        CrashedRunError: the published run ended with an error within its first epoch.
    """
    with torch.device(device):
        model = training.network()
    shown = torch.empty(training.summary_shape).to(device)
    model(shown)
    del shown
    criterion = training.loss()
    optimizer = torch.optim.Adam(model.parameters())
    inputs = labels = outputs = loss = None  # each lives until the next batch replaces it
    for rows in training.batches:
        inputs, labels = training.example(rows)
        inputs, labels = inputs.to(device), labels.to(device)
        optimizer.zero_grad()
        try:
            outputs = model(inputs)
            loss = training.lost(criterion, outputs, labels)
        except ValueError as error:  # it ended the published run within its first epoch, too
            raise CrashedRunError(str(error)) from error
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()
    if training.evaluated:
        model.eval()
    with torch.no_grad():
        for rows in training.evaluated:
            inputs, labels = training.example(rows)
            inputs, labels = inputs.to(device), labels.to(device)
            outputs = model(inputs)
            loss = criterion(outputs, labels)
            loss.item()
