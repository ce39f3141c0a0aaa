"""Memory budgets that the kernel or the CUDA allocator enforces."""
