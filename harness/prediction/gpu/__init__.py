"""GPUs by name, the memory outside the allocator, and whether a step fits.

catalogue.py         GPUs: the properties that decide how much memory a step needs
fit.py               Steps on a GPU, simulated: their peaks, fit and largest batch
reduction.py         Scratch of a reduction on a GPU, for any layout of its input
simulation.py        Steps simulated with the model of the caching allocator
workspaces.py        cuBLAS's workspaces
"""
