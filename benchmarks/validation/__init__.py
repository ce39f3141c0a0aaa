"""Tools that compare the harness with other systems and record what tests and results read."""
