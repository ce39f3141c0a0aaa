"""Code that runs: the note's two models, their data, and one step in phases."""
