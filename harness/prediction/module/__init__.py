"""Metrics of any module's step, from fake tensors."""
