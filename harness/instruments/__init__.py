"""One file an instrument; none knows models or workloads."""
