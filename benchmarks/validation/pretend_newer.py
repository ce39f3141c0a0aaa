"""Run Python where the installed PyTorch says that it is another, newer version.

    python -m benchmarks.validation.pretend_newer 2.16.0 -m pytest

A folder before all others on the path holds metadata of a distribution ``torch`` of that version,
and nothing else: what asks which version is installed is deceived, and the code stays as it is.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> int:
    """Run Python with the arguments after the version; return its exit code."""
    version, *arguments = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        environment = environment_of(version, Path(folder))
        done = subprocess.run([sys.executable, *arguments], env=environment, check=False)
    return done.returncode


def environment_of(version: str, folder: Path) -> dict[str, str]:
    """Return this environment with metadata of torch ``version`` in ``folder`` found first."""
    facts = folder / f"torch-{version}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


if __name__ == "__main__":
    sys.exit(main())
