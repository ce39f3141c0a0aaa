"""Estimates the memory of a step without running the step on its device.

PyTorch's dispatcher, autograd engine and optimizers run on meta tensors, which have no memory. A
dispatch mode records the results of each operator. A table adds the internal blocks of CUDA kernels
that can change the peak. The estimate of a CPU step uses fake tensors and is a lower bound.
"""
