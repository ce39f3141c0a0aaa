"""The peak of the forward pass of torchvision's ResNet-101."""

import torch
from torch import nn
from torchvision.models import resnet101


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
