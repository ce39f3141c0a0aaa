"""VGG-16 with batch norm, as it is or in place, and the peak of its training step."""

import torch
from torch import nn

from .layer_stacks import NormInPlace

CHANNELS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
"""Of each convolution; 0 stands for pooling."""


def vgg16(in_place: bool) -> nn.Module:
    """Return the network."""
    layers: list[nn.Module] = []
    before = 3
    for channels in CHANNELS:
        if not channels:
            layers.append(nn.MaxPool2d(2))
            continue
        layers.append(nn.Conv2d(before, channels, 3, padding=1))
        own = (nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
        layers += [NormInPlace(channels)] if in_place else own
        before = channels
    layers += [nn.AdaptiveAvgPool2d(7), nn.Flatten()]
    for inner, outer in ((49 * before, 4096), (4096, 4096)):
        layers += [nn.Linear(inner, outer), nn.ReLU(inplace=True), nn.Dropout()]
    return nn.Sequential(*layers, nn.Linear(4096, 1000))


def step_peak(in_place: bool, batch: int = 128) -> dict[str, int]:
    """Return the allocated peak of the second step with momentum, gradients set to zero."""
    model = vgg16(in_place).to("cuda")
    images = torch.rand(batch, 3, 224, 224, requires_grad=True).cuda()
    labels = torch.zeros(batch, dtype=torch.int64, device="cuda")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, foreach=False)
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats()
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad(set_to_none=False)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return {"peak_bytes": torch.cuda.max_memory_allocated()}
