"""Output of a published script or notebook that runs unmodified under ``harness dry-run``."""

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.witnesses.clones import bytes_of
from benchmarks.witnesses.rows import RefusedError

ROOT = Path(__file__).parents[2]
"""Folder that holds the package ``harness``, which environments of other versions lack."""


@functools.cache
def printed(clone: Path, commit: str, path: str, gpu: str, *arguments: str, torch: str = "") -> str:
    """Run a file of a commit on a pretended GPU; return its output."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / Path(path).name
        file.write_bytes(bytes_of(clone, commit, path))
        return output_of(file, gpu, (), arguments, torch=torch)


def output_of(
    file: Path,
    gpu: str,
    options: Sequence[str],
    arguments: Sequence[str],
    *,
    torch: str = "",
) -> str:
    """Run a script or notebook in its folder, on a pretended GPU; return its output.

    Args:
        file: script or notebook.
        gpu: name of the GPU; empty if the options describe it.
        options: options of ``harness dry-run``.
        arguments: arguments of the script.
        torch: version of PyTorch, e.g. 2.14, which pip installs if needed; by default the version
            of this interpreter.

    Raises:
        RefusedError: The script ended with an error.
    """
    from harness.prediction.torch_environments import python_of

    python = python_of(torch, offline=False) if torch else sys.executable
    named = ["--gpu", gpu] if gpu else []
    command = [python, "-m", "harness", "dry-run", *named, *options, "--"]
    paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    ended = subprocess.run(
        [*command, file.name, *arguments], cwd=file.parent, capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    if ended.returncode not in (0, 3):  # 3: an allocation was refused, which it may look for
        raise RefusedError(f"its script ends with an error: {ended.stderr[-200:]}")
    return ended.stdout


def published_output(notebook: bytes) -> str:
    r"""Return the output of the cells of an executed notebook.

    >>> published_output(b'{"cells": [{"outputs": [{"text": ["peak: ", "1 MB\\n"]}]}, {}]}')
    'peak: 1 MB\n'
    """
    cells = json.loads(notebook)["cells"]
    outputs = [one for cell in cells for one in cell.get("outputs", ())]
    return "".join("".join(one.get("text", ())) for one in outputs)
