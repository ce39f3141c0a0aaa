"""An estimate of any module's step where nothing can be run: meta tensors stand for a GPU's.

PyTorch's dispatcher, autograd engine and optimizers run on tensors without memory, and a dispatch
mode records each result. A table says what CUDA's kernels allocate in addition, as far as that
decides a peak. The CPU's step runs on fake tensors, and its estimate is a lower bound.

    estimate_step.py     the function to call: the trace, layers, metrics and verdict of a step
    step_run.py          builds a user's step and runs it under a recorder
    block_recorder.py    when each block began and ended, in which phase and module
    layer_rows.py        one row for each layer, and the bytes that it saved
    cpu_recorder.py      the CPU, on fake tensors
    onednn_lstm.py       what an LSTM layer keeps on the CPU
    gpu_recorder.py      the GPU: results, scratch and workspaces
    meta_gpu.py          a CUDA device made of meta tensors
    gpu_answers.py       what programs ask of a CUDA device
    thread_patch.py      functions replaced for the estimating thread alone
    meta_autocast.py     torch.autocast for it
    cuda_functions.py    functions that CUDA runs another way
    attention_routes.py  which kernel attention takes
    cudnn_recurrent.py   recurrent layers
    meta_kernels.py      operators that the meta device lacks
    kernel_rules.py      the table of what kernels allocate in addition to results
    operator_rules.py    the same for operators of your own
    in_place_sums.py     gradients that autograd adds in place, e.g. of shared weights
    refusals.py          what cannot be estimated, in one line
"""
