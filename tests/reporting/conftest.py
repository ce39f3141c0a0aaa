"""A browser for the tests of pages; they are skipped, saying why, where there is none."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.reporting.browser import FLAGS, NO_BROWSER, executable


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if NO_BROWSER:
        pytest.skip(NO_BROWSER)
    driver = pytest.importorskip("playwright.sync_api", reason="no playwright (extra: browser)")
    with driver.sync_playwright() as tool:
        shown = tool.chromium.launch(executable_path=executable(), args=list(FLAGS))
        yield shown
        shown.close()
