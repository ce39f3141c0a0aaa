"""The version of the harness, which records and cached files contain, and its folder."""

from pathlib import Path

__version__ = "0.2.0"

PACKAGE = Path(__file__).parent
"""The folder of this package."""
