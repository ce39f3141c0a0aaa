"""ResNet-101 from plain modules, as torchvision builds it, and the peak of its forward pass."""

import torch
from torch import Tensor, nn

STAGES = ((64, 3, 1), (128, 4, 2), (256, 23, 2), (512, 3, 2))
"""Channels inside a block, blocks and stride of each stage."""


def _normed(before: int, after: int, size: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after))


class _Bottleneck(nn.Module):
    def __init__(self, before: int, inside: int, stride: int) -> None:
        super().__init__()
        after = 4 * inside
        self.first = _normed(before, inside, 1)
        self.second = _normed(inside, inside, 3, stride)
        self.third = _normed(inside, after, 1)
        same = before == after and stride == 1
        self.shortcut = nn.Sequential() if same else _normed(before, after, 1, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.relu(self.second(self.relu(self.first(x))))
        hidden = self.third(hidden)
        hidden += self.shortcut(x)
        relu: Tensor = self.relu(hidden)
        return relu


def resnet101(classes: int = 1000) -> nn.Module:
    """Return the network."""
    layers: list[nn.Module] = [_normed(3, 64, 7, 2), nn.ReLU(inplace=True)]
    layers.append(nn.MaxPool2d(3, 2, padding=1))
    before = 64
    for inside, blocks, stride in STAGES:
        for block in range(blocks):
            layers.append(_Bottleneck(before, inside, 1 if block else stride))
            before = 4 * inside
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))
    return nn.Sequential(*layers, *head)


def forward_peak(trained: str, evaluated: bool, batch: int = 64) -> dict[str, int]:
    """Return the peak of a forward pass with its loss, as the authors of memsave_torch take it.

    Args:
        trained: ``all`` weights, ``norm`` for those of the norms, ``input`` for none.
        evaluated: whether the norms are in evaluation mode.
        batch: images; their script has them on the GPU twice.

    """
    model = resnet101().to("cuda")
    given = torch.rand(batch, 3, 224, 224, device="cuda")
    wanted = torch.zeros(batch, dtype=torch.int64, device="cuda")
    images, labels = given.clone().requires_grad_(trained == "input"), wanted.clone()
    for module in model.modules():
        norm = isinstance(module, nn.BatchNorm2d)
        if norm and evaluated:
            module.eval()
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(trained == "all" or (trained == "norm" and norm))
    torch.cuda.reset_peak_memory_stats()
    loss = nn.functional.cross_entropy(model(images), labels)
    del loss
    return {"peak_bytes": torch.cuda.max_memory_allocated()}
