"""Search and probes for the largest batch that fits into a budget."""
