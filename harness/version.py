"""The version and the folder of the harness; records and cache files contain the version."""

from pathlib import Path

__version__ = "0.2.0"

PACKAGE = Path(__file__).parent
"""Folder of the package ``harness``."""
