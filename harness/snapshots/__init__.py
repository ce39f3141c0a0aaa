"""Reads, replays and explains recordings of PyTorch's CUDA allocator, without importing torch."""
