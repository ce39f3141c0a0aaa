"""A CUDA build of PyTorch on a pretended GPU.

PyTorch's own allocator, dispatcher, autograd and optimizers run; the CUDA runtime, the driver and
NVIDIA's libraries below them are a stub that counts memory and starts no kernel. So the memory
equals a GPU's memory, and a value read from the GPU is real only if it is known.
"""
