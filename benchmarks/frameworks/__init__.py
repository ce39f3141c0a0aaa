"""Dry runs of scripts that train with other frameworks."""
