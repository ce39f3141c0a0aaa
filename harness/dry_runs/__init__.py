"""A CUDA build of PyTorch on a pretended GPU.

PyTorch's own allocator, dispatcher, autograd and optimizers run. A stub replaces the CUDA runtime,
the driver and NVIDIA's libraries; the stub counts memory and starts no kernel. PyTorch allocates
the same memory as on a real GPU. A value that the script reads from the GPU is correct only if the
harness can compute the value.
"""
