"""Estimates the memory of a step without running the step on its device.

PyTorch's dispatcher, autograd engine and optimizers run on meta tensors, which have no memory. A
dispatch mode records the results of each operator. A table adds large internal blocks of CUDA
kernels. A CPU step runs on fake tensors; its estimated peak is a lower bound.
"""
