"""Metrics without running the step.

estimate/             An estimate of any module's step where nothing can be run
gpu/                  GPUs by name, the memory outside the allocator, and whether a step fits
mlp/                  Closed forms and the event sequence of an MLP step, CPU and CUDA kernels
largest_batch.py      The largest batch of a step that fits, for each source of its peaks
largest_value.py      The largest value that fits, for needs that are computed
library_answers.py    Usual answers to what libraries ask about values that nobody knows
interpreter_state.py  State of the interpreter that a prediction changes for a while
predict_workload.py   Every byte metric of a record
torch_environments.py Environments with other versions of PyTorch
versions.py           Which version of PyTorch a prediction describes
"""
