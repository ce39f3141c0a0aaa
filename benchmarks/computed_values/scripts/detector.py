"""A detector keeps the boxes above a threshold that do not overlap, and crops each of them."""

import os

import torch
from torch import nn
from torch.nn import functional

device = os.environ.get("DEVICE", "cuda")
torch.manual_seed(0)


def overlap(one: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return the intersection over union of a box with others."""
    low, high = torch.maximum(one[:2], others[:, :2]), torch.minimum(one[2:], others[:, 2:])
    shared = (high - low).clamp(min=0).prod(1)
    area = (one[2:] - one[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1)
    return shared / (area - shared)


def suppressed(boxes: torch.Tensor, scores: torch.Tensor) -> list[int]:
    """Return the boxes that no better box overlaps by half."""
    order = scores.argsort(descending=True)
    keep = []
    while order.numel() > 0:
        best = int(order[0])
        keep.append(best)
        order = order[1:][overlap(boxes[best], boxes[order[1:]]) < 0.5]
    return keep


backbone = nn.Sequential(
    nn.Conv2d(3, 16, 3, 2, 1),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.Conv2d(16, 32, 3, 2, 1),
    nn.ReLU(),
    nn.Conv2d(32, 5, 1),
).to(device)
image = torch.rand(1, 3, 128, 128).to(device)
with torch.no_grad():
    out = backbone(image)[0].flatten(1).T
centres = (
    torch.stack(torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij"), -1)
    .flatten(0, 1)
    .to(device)
    * 4.0
)
sizes = 8 + 20 * out[:, 2:4].sigmoid()
boxes = torch.cat([centres - sizes, centres + sizes], 1).clamp(0, 127)
scores = out[:, 4].sigmoid()
chosen = scores > scores.mean() + 0.5 * scores.std()
boxes, scores = boxes[chosen], scores[chosen]
keep = suppressed(boxes, scores)
crops = []
for x0, y0, x1, y1 in boxes[keep].round().long().tolist():
    crops.append(functional.interpolate(image[:, :, y0 : y1 + 1, x0 : x1 + 1], size=(224, 224)))
print("boxes", int(chosen.sum()), "kept", len(keep), torch.cat(crops).shape[0])
