"""Finds the largest batch, depth or width that fits into a memory budget."""
