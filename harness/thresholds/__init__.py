"""The largest batch that fits into a budget: the search and its probes."""
