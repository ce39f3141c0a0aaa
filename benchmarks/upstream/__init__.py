"""Unmodified GPU tests of other projects on a pretended GPU."""
