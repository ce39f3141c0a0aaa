"""Tools that compare the harness with other systems, and write files for tests and results."""
