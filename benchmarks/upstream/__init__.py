"""GPU tests of other projects, as they are, on a pretended GPU."""
