"""One file an experiment: its cells, its analysis, its figures."""
