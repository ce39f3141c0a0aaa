"""Claims of the literature on the memory of training: a file a claim, and what they share.

``harness reproduce --literature`` runs them all; no other command does unless one is named.

course_stages.py       The peaks of the course's language model stage by stage
judgements.py          Judges a claim on traced steps; with steps missing it stays open
layer_stacks.py        Stacks of equal layers: kinds to freeze, convolutions with their norms, MLPs
mlp_peaks.py           Closed forms of an MLP's backward pass
networks.py            The networks: transformer blocks and others, from plain modules
pinned_blocks.py       Blocks of PyTorch's allocator of pinned host memory
resnet.py              ResNet-101, and the peak of its forward pass
reversible.py          Reversible blocks, whose inputs are computed from their outputs
small_states.py        Optimizers: steps inside the backward pass, 8-bit moments, Adafactor
transformer.py         A transformer of plain modules
vgg.py                 VGG-16 with batch norm in place or not, and the peak of its step
vision_transformer.py  ViT-L/16, and the peak of its training step
"""
