"""A browser for the tests of pages; they are skipped, saying why, where there is none."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.reporting.browser import BROWSER, FLAGS, NO_BROWSER


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if NO_BROWSER:
        pytest.skip(NO_BROWSER)
    driver = pytest.importorskip("playwright.sync_api", reason="no playwright (extra: browser)")
    with driver.sync_playwright() as tool:
        shown = tool.chromium.launch(executable_path=BROWSER, args=list(FLAGS))
        yield shown
        shown.close()


@contextmanager
def visited(browser: Any, path: Path, **context: Any) -> Iterator[Any]:
    """Give a page, loaded; afterwards it must have logged and asked for nothing."""
    tabs = browser.new_context(**context)
    tab = tabs.new_page()
    heard: list[str] = []
    tab.on("console", lambda message: heard.append(message.text))
    tab.on("pageerror", lambda error: heard.append(str(error)))
    tab.on("request", lambda request: heard.append(request.url))
    tab.goto(path.as_uri())
    yield tab
    tabs.close()
    assert heard == [path.as_uri()]
