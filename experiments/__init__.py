"""One file or folder for each experiment, with its cells, analysis and figures."""
