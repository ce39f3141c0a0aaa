"""Predicts the memory of an MLP step on the CPU, without importing torch."""
