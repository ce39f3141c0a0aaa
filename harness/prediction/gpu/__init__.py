"""Properties of GPUs, and rules for the CUDA allocator and for cuBLAS workspaces."""
