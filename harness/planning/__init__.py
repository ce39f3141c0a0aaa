"""Predicts or measures the memory of a training step, and finds changes that reduce the memory."""
