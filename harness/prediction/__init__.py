"""Numbers without running: formulas, event traces, the allocator model."""
