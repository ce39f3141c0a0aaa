"""DeepSpeed#3606 and others: an offloaded optimizer takes more host memory than calculated.

Adam of weights in half precision keeps 16 bytes a parameter on the host: weights, gradients and two
states in float32. Each pinned tensor takes the next power of two; "fixed" divides one block.
"""

import sys

import torch

LAYERS, COUNT = 4, (1 << 24) + (1 << 12)  # parameters of a layer: a little over a power of two
layers = [torch.empty(COUNT, dtype=torch.bfloat16, device="cuda") for _ in range(LAYERS)]
if "fixed" in sys.argv:
    block = torch.zeros(4 * LAYERS * COUNT).unflatten(0, (LAYERS, 4, COUNT))
    torch.cuda.cudart().cudaHostRegister(block.data_ptr(), block.nbytes, 0)
    kept = [list(layer) for layer in block]
else:
    kept = [[torch.zeros(COUNT, pin_memory=True) for _ in range(4)] for _ in range(LAYERS)]
for _ in range(3):
    for layer, (weight, gradient, first, second) in zip(layers, kept, strict=True):
        gradient.copy_(layer.float())  # in place of a backward pass; the GPU converts
        first.lerp_(gradient, 0.1)
        second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        second.sqrt_().add_(1e-8)  # in place: the fused kernel has no copy, not even for a moment
        weight.addcdiv_(first, second, value=-0.001)
        second.square_()
        layer.copy_(weight.to(layer.device))
