"""Writes and reads ``manifest.sha256``, which contains the hash of every file of a run.

The command ``sha256sum --check manifest.sha256`` checks the hashes.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from harness.reporting.claims import ReportFileError
from harness.reporting.earlier_runs import EARLIER
from harness.schema.record import EVENTS, RECORDS
from harness.schema.threshold import THRESHOLDS
from harness.schema.traced_run import STEP_RUNS
from harness.schema.training_run import TRAINING_RUNS

MANIFEST = "manifest.sha256"
EVIDENCE = (RECORDS, THRESHOLDS, TRAINING_RUNS, STEP_RUNS, EARLIER)
"""Names of the measured files; ``harness report`` derives all other files from these files."""

_LINE = re.compile("([0-9a-f]{64})  (.+)")


def manifest(folder: Path, made: Mapping[str, bytes]) -> bytes:
    """Return the manifest of a run: hashes of its measured files and of the files in ``made``."""
    measured = {path: (folder / path).read_bytes() for path in evidence_of(folder)}
    files = sorted({**measured, **made}.items())
    return "".join(f"{checksum(text)}  {path}\n" for path, text in files).encode()


def checksum(text: bytes) -> str:
    """Return the SHA-256 of a file's bytes as hexadecimal digits."""
    return hashlib.sha256(text).hexdigest()


def evidence_of(folder: Path) -> list[str]:
    """Return the measured files of a run, as paths below ``folder``."""
    patterns = [*EVIDENCE, f"{EVENTS}/*.csv"]
    found = [path for one in patterns for path in (*folder.glob(one), *folder.glob(f"*/{one}"))]
    return sorted(path.relative_to(folder).as_posix() for path in found)


def read_manifest(folder: Path) -> dict[str, str]:
    """Return the checksum of each file that the manifest of a run lists.

    Raises:
        ReportFileError: the manifest is missing, or a line of it is not a checksum and a path.
    """
    path = folder / MANIFEST
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        rule = f"no {MANIFEST} here; write the report first: harness report {folder}"
        raise ReportFileError(f"{folder}: {rule}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ReportFileError(f"{path}: {error}") from error
    listed = {}
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ReportFileError(f"{path}: line {number} is not a SHA-256 and a path: {line!r}")
        listed[match[2]] = match[1]
    return listed
