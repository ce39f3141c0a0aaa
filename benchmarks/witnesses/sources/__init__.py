"""Published measurements of real GPUs: one file a source."""
