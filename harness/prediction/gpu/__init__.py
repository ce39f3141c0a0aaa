"""GPUs by name, the memory outside the allocator, and whether a step fits.

catalogue.py         GPUs: the properties that decide how much memory a step needs
context_overhead.py  The part of a GPU's memory that is outside the allocator
fit.py               Fit of steps on a GPU, and the largest batch, simulated by the allocator model
peaks.py             Peaks of steps on a GPU by the names of a record
reduction.py         Scratch of a reduction on a GPU, for any layout of its input
simulation.py        Steps played through the model of the caching allocator
workspaces.py        cuBLAS's workspaces
"""
