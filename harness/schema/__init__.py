"""Plain data that all packages share, e.g. workloads, records and events; no torch."""
