"""The page in a real browser; skipped, saying why, where there is none."""

import html
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.reporting.report import write_report
from harness.schema.workload import Workload
from tests.analysis import planted
from tests.reporting.browser import AXE, FLAGS, NO_AXE, NO_BROWSER, executable

POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')

pytestmark = pytest.mark.skipif(bool(NO_BROWSER), reason=NO_BROWSER)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    records = planted.grid((1, 2, 4), (16, 64, 256))
    planted.write(folder / "depth_batch", records)
    planted.write_events(folder / "depth_batch", Workload(depth=2, batch=64))
    return write_report(folder)


def _browse(address: str, folder: Path, *flags: str) -> tuple[str, str]:
    """Return the page's DOM once loaded, and the browser's log."""
    command = [
        executable(),
        *FLAGS,
        "--enable-logging=stderr",
        "--dump-dom",
        f"--user-data-dir={folder / 'profile'}",
        *flags,
        address,
    ]
    done = subprocess.run(command, capture_output=True, timeout=100, check=True, encoding="utf-8")
    return done.stdout, done.stderr


def _ask(script: str, body: str, folder: Path, *flags: str) -> Any:
    """Run ``script`` in ``body``; return what it puts, as JSON, into an element ``answer``."""
    path = folder / "asking.html"
    path.write_text(f"{body}<script>{script}</script>", encoding="utf-8")
    dom, _ = _browse(path.as_uri(), folder, *flags)
    found = re.search(r'<pre id="answer">(.*?)</pre>', dom, re.DOTALL)
    assert found is not None, dom[-2000:]
    return json.loads(html.unescape(found[1]))


def test_the_page_opens_without_a_console_message(page: Path, tmp_path: Path) -> None:
    dom, log = _browse(page.as_uri(), tmp_path)
    assert 'class="verdicts"' in dom
    assert [line for line in log.splitlines() if "CONSOLE" in line] == []


@pytest.mark.parametrize("width", [390, 1280])
def test_every_figure_shows_and_nothing_sticks_out(page: Path, tmp_path: Path, width: int) -> None:
    # The window cannot be as narrow as a phone, a frame can.
    inner = html.escape(POLICY.sub("", page.read_text(encoding="utf-8")))
    body = f'<iframe id="f" style="width:{width}px;height:2000px;border:0" srcdoc="{inner}">'
    script = """onload = () => {
      const d = f.contentDocument, w = d.documentElement.clientWidth;
      const box = e => e.getBoundingClientRect();
      const answer = {
        wide: d.documentElement.scrollWidth - w,
        out: [...d.querySelectorAll("main *")]
          .filter(e => box(e).right > w + 1 && !e.closest(".scroll, .canvas"))
          .map(e => e.outerHTML.slice(0, 80)),
        figures: [...d.querySelectorAll("figure svg[role=img]")].map(e => box(e).width),
      };
      document.body.innerHTML = '<pre id="answer"></pre>';
      document.getElementById("answer").textContent = JSON.stringify(answer);
    }"""
    answer = _ask(script, body + "</iframe>", tmp_path, "--window-size=1400,2000")
    assert answer["wide"] == 0
    assert answer["out"] == []
    assert len(answer["figures"]) > 3
    assert min(answer["figures"]) > 300


def test_a_timeline_tells_the_bytes_under_the_pointer(page: Path, tmp_path: Path) -> None:
    script = """
    const svg = document.querySelector("figure svg:has(rect title)");
    svg.scrollIntoView({block: "center"});
    const [first, ...rest] = svg.querySelectorAll("rect:has(title)");
    const found = [first, rest.at(-1)].map(rect => {
      const box = rect.getBoundingClientRect();
      const x = box.x + box.width / 2, y = box.y + box.height / 2;
      return document.elementFromPoint(x, y).querySelector("title").textContent;
    });
    document.body.innerHTML = '<pre id="answer"></pre>';
    document.getElementById("answer").textContent = JSON.stringify(found);
    """
    text = POLICY.sub("", page.read_text(encoding="utf-8"))
    first, last = _ask(script, text, tmp_path, "--window-size=1400,900")
    assert first.startswith("event 0, ")
    for words in (first, last):
        live, *parts = (
            int(size.replace(",", "")) for size in re.findall(r"[\d,]+(?= bytes|$)", words, re.M)
        )
        assert live == sum(parts)


@pytest.mark.skipif(bool(NO_AXE), reason=NO_AXE)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(page: Path, tmp_path: Path, scheme: str) -> None:
    text = POLICY.sub("", page.read_text(encoding="utf-8"))
    axe = AXE.read_text(encoding="utf-8").replace("</script", "<\\/script")
    script = """
    axe.run(document).then(result => {
      const dark = matchMedia("(prefers-color-scheme: dark)").matches;
      const found = result.violations.map(v => v.impact + ": " + v.help);
      document.body.innerHTML = '<pre id="answer"></pre>';
      document.getElementById("answer").textContent =
        JSON.stringify({found, dark, passed: result.passes.length});
    })"""
    chosen = f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"
    answer = _ask(axe + script, text, tmp_path, chosen, "--virtual-time-budget=60000")
    assert answer["found"] == []
    assert answer["passed"] > 20
    assert answer["dark"] == (scheme == "dark")
