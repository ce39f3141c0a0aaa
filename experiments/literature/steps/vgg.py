"""VGG-16 with batch norm, as it is or in place, and the peak of its training step."""

import torch
from torch import nn
from torchvision.models import vgg16_bn

from .layer_stacks import NormInPlace


def vgg16(in_place: bool) -> nn.Module:
    """Return torchvision's network, if asked with one in-place layer for each norm and its ReLU."""
    model = vgg16_bn()
    if in_place:
        layers = (layer for layer in model.features if not isinstance(layer, nn.ReLU))
        norm = nn.BatchNorm2d
        model.features = nn.Sequential(
            *(NormInPlace(one.num_features) if isinstance(one, norm) else one for one in layers)
        )
    return model  # type: ignore[no-any-return]


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
