"""Public training scripts, as they are, on a pretended GPU: one run, and all runs."""
