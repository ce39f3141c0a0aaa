"""Recordings of PyTorch's CUDA allocator: read, replayed, explained; imports no torch."""
