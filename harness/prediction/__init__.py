"""Predicts metrics without running the step."""
