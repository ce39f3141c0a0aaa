"""Published measurements of real GPUs, one file per source."""
