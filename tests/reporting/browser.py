"""Paths of the browser and of axe-core, and the reason if a test goes without them."""

import os
import shutil
from pathlib import Path

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
NO_BROWSER = "" if BROWSER else "no chromium on this machine (Debian: apt-get install chromium)"

_ROOT = Path(__file__).parents[2]
AXE = Path(os.environ.get("AXE_CORE", _ROOT / "node_modules" / "axe-core")) / "axe.min.js"
NO_AXE = "" if AXE.is_file() else "no axe-core (npm install --no-save axe-core)"
