"""Data types that all packages share, e.g. workloads, records and events; torch is not imported."""
