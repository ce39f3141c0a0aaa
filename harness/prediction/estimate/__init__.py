"""Estimates the step of any module without running it, on meta tensors in place of GPU tensors.

PyTorch's dispatcher, autograd engine and optimizers run on tensors without memory, and a dispatch
mode records each result. A table has the additional allocations of CUDA's kernels, if they can
decide a peak. A step on the CPU runs on fake tensors, and its estimate is a lower bound.
"""
