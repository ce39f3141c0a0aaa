"""The browser of the tests of pages, for the site too."""

from tests.reporting.conftest import browser

__all__ = ["browser"]
