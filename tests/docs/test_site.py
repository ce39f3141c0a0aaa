"""The site's pages are built: no directive is left as text."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.slow
def test_the_page_of_the_command_line_has_options_and_no_raw_directive(tmp_path: Path) -> None:
    pytest.importorskip("sphinx_click", reason="needs the extra docs")
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    (source / "index.md").write_text((DOCS / "cli.md").read_text(encoding="utf-8"))
    arguments = ["-q", "-b", "html", "-c", str(DOCS), "-D", "nb_execution_mode=off"]
    command = [sys.executable, "-m", "sphinx", *arguments, str(source), str(site)]
    subprocess.run(command, check=True, timeout=300)
    page = (site / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"\.\. [a-z-]+::", page) == []
    options = re.findall(r'id="cmdoption-harness-predict-([a-z-]+)"', page)
    assert {"gpu", "budget", "answer"} <= set(options)
    assert "\N{EN DASH}gpu" not in page
