"""Metrics from real runs.

limits/              Memory budgets that the kernel or the CUDA allocator enforces
process/             One process per measurement
doctor.py            Measurements that this machine can make, and the reasons against the others
environment.py       The environment of a record
gpu.py               The GPU that a worker uses
malloc_policy.py     The C allocator: its policy, and a refusal where it is replaced
measure.py           One isolated measurement: two worker processes, one record
measuring_code.py    A hash of the code that measures
model_check.py       The memory model against the installed PyTorch: tiny workloads
module_trace.py      with harness.trace(model) as trace
passes.py            The passes over one workload, one instrument each
process_parts.py     Parts of a process's resident memory: before PyTorch, and its libraries
step_recording.py       The recording of a step, for a record and for a report
step_trace.py        One traced step, or training loop: the source of every answer about it
whole_run.py         A whole training run in one worker
"""
