"""One file or folder for each experiment: its cells, its analysis, its figures."""
