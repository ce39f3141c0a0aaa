"""A grid of workloads into a store of records, with resume."""
