"""The browser of the tests of pages, for the site too."""

from tests.reporting.conftest import browser, wide

__all__ = ["browser", "wide"]
