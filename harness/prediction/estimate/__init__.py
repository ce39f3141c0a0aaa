"""An estimate of any module's step where nothing can be run: meta tensors stand for a GPU's.

PyTorch's dispatcher, autograd engine and optimizers run on tensors without memory, and a dispatch
mode records each result. A table says what CUDA's kernels allocate in addition, as far as that
decides a peak. The CPU's step runs on fake tensors, and its estimate is a lower bound.

    estimate_step.py     the function to call: the trace, layers, metrics and verdict of a step
    step_run.py          builds a user's step and runs it under a recorder; refusals in one line
    block_recorder.py    when each block began and ended, in which phase and module
    cpu_recorder.py      the CPU, on fake tensors
    gpu_recorder.py      the GPU: results, scratch and workspaces
    meta_gpu.py          a CUDA device made of meta tensors, and its answers to programs
    cuda_operators.py    the operators that torch.autocast casts, or that CUDA runs another way
    cuda_functions.py    what it runs in their place
    attention_routes.py  which kernel attention takes
    kernel_rules.py      what kernels allocate in addition to results, your own ones included
"""
