"""The note's two models, their data, and one step in phases."""
