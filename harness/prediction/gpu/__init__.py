"""GPUs by name, the memory outside the allocator, and whether a step fits."""
