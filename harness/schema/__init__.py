"""Plain data that everything shares: workloads, records, events, thresholds; no torch."""
