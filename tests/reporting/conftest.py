"""A run with its report, and a browser for the tests of pages, skipped where there is none."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from harness.processes.measuring_code import measuring_code
from harness.reporting.report import write_report
from harness.schema.workload import Workload
from tests.analysis import planted

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
NO_BROWSER = "" if BROWSER else "no chromium on this machine (Debian: apt-get install chromium)"

NODE_MODULES = Path(__file__).parents[2] / "node_modules"
AXE = Path(os.environ.get("AXE_CORE", NODE_MODULES / "axe-core")) / "axe.min.js"
NO_AXE = "" if AXE.is_file() else "no axe-core (npm install --no-save axe-core)"


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few planted cells with its report, which no test changes."""
    folder = tmp_path_factory.mktemp("run")
    made_by = {"code": measuring_code(pretended=False), "git_commit": "abc", "torch": "9.9"}
    cells = planted.grid((1, 2, 4), (16, 64, 256))
    planted.write(folder / "depth_batch", [replace(one, environment=made_by) for one in cells])
    planted.write_events(folder / "depth_batch", Workload(depth=2, batch=64))
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if NO_BROWSER:
        pytest.skip(NO_BROWSER)
    driver = pytest.importorskip("playwright.sync_api", reason="no playwright (extra: browser)")
    with driver.sync_playwright() as tool:
        shown = tool.chromium.launch(executable_path=BROWSER, args=list(FLAGS))
        yield shown
        shown.close()


@pytest.fixture
def wide(browser: Any) -> Iterator[Any]:
    """An empty page on a wide screen."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    yield page
    page.close()


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


def serious(tab: Any) -> list[str]:
    """Return what axe-core finds serious on a page, with the first place."""
    tab.add_script_tag(content=AXE.read_text(encoding="utf-8"))
    found = tab.evaluate("axe.run(document)")["violations"]
    grave = [each for each in found if each["impact"] in ("serious", "critical")]
    return [f"{each['help']}: {each['nodes'][0]['html'][:120]}" for each in grave]
