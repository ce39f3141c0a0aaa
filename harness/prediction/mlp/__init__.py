"""Closed forms and the event sequence of an MLP step, CPU and CUDA kernels; no torch."""
