"""An estimate of any module's step if nothing can be run: meta tensors stand for a GPU's.

PyTorch's dispatcher, autograd engine and optimizers run on tensors without memory, and a dispatch
mode records each result. A table says what CUDA's kernels allocate in addition, as far as that
decides a peak. The CPU's step runs on fake tensors, and its estimate is a lower bound.
"""
