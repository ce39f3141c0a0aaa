"""Code run in an interpreter of its own."""

import subprocess
import sys
import textwrap


def child(code: str) -> "subprocess.CompletedProcess[str]":
    """Run ``code`` in an interpreter of its own, which may set limits and die."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
