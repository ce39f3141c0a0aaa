"""Closed forms and the event sequence of an MLP step, CPU and CUDA kernels; no torch.

activations.py       Blocks of activation functions and dropout
autocast.py          The casts of autocast: float32 parameters, matmuls in bfloat16 or float16
checkpoint.py        Checkpointed segments
cpu_trace.py         The events of a workload's build and steps, and its largest batch by them
cuda_fit.py          The answers about a workload on a GPU
cuda_trace.py        The events of a workload's build and steps as CUDA's kernels
data_segment.py      From live bytes to what the kernel counts against a limit
formula.py           Closed forms: what a workload holds, as plain functions of its description
kernels.py           Scratch memory of a device's kernels
layers.py            The events of single layers and of the cross-entropy
network.py           Forward and backward pass of a whole network, event by event
norms.py             Blocks of a normalization between a linear layer and its activation
optimizer_events.py  The events of one optimizer step, for each optimizer and its two forms
trace_writer.py      Writes predicted allocator events down in order
"""
