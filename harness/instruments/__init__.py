"""One file an instrument; none knows models or workloads.

allocation_log.py     The CUDA allocator's own log
allocation_trace.py   The allocation trace of PyTorch's allocators, recorded with the profiler
cuda_counters.py      The CUDA caching allocator's own counters
event_tree.py         Reads the profiler's event tree
forward_hooks.py      Watches the forward of every module
rss.py                A process's resident memory
saved_tensors.py      Tensors that autograd keeps for the backward pass
tensor_roles.py       The facts that turn allocator events into categories
"""
