"""Comparisons of what a pretended GPU computes with what PyTorch computes on the CPU."""
