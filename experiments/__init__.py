"""Each experiment is a file or folder that defines its cells, analysis and figures."""
