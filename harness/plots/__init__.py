"""Functions that draw data frames as matplotlib figures, for wide and narrow pages."""
