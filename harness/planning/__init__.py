"""Predicts or measures the memory of a training step, and plans changes of the step."""
