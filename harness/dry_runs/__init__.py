"""A CUDA build of PyTorch on a pretended GPU.

PyTorch's own allocator, dispatcher, autograd and optimizers run; only the layer below (the CUDA
runtime, the driver, NVIDIA's libraries) is a stub that counts memory and starts no kernel. So the
memory is that of a GPU, and a value read from the GPU is real only if it is known.
"""
