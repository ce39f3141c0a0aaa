"""Data types that all packages share, e.g. workloads, records and events; imports no torch."""
