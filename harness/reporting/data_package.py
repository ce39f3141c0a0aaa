"""``datapackage.json``: the files of a run with their checksums, and the data dictionary.

The form is that of a Frictionless data package, which archives and tools can read.
"""

import contextlib
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from harness.reporting.claims import read_written
from harness.reporting.dictionary import Column, dictionary
from harness.reporting.earlier_runs import EARLIER
from harness.schema.record import RECORDS
from harness.schema.threshold import THRESHOLDS
from harness.schema.traced_run import STEP_RUNS
from harness.schema.training_run import TRAINING_RUNS
from harness.sweeps.store import EVENTS

DATA_PACKAGE = "datapackage.json"
EVIDENCE = (RECORDS, THRESHOLDS, TRAINING_RUNS, STEP_RUNS, EARLIER)
"""Files of lines that were measured; all others are made from them."""


UNKNOWN = "unknown"
"""Stands for a commit or code that a record does not name."""


class Resource(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file of a run."""

    name: str
    path: str
    bytes: int
    hash: str
    """``sha256:`` and the digits."""
    lines: int | None = None
    """Records in it, for files that were measured."""


class DataPackage(Struct, frozen=True, kw_only=True):
    """All files of a run, and the meaning of the records' columns."""

    profile: str = "data-package"
    name: str = "mlp-memory-harness-run"
    title: str
    description: str = (
        "Records of mlp-memory-harness, one JSON object a line, and what its report made of them. "
        "dictionary lists the columns of harness.load with units and meanings."
    )
    code: tuple[str, ...]
    """Hashes of the code that measured."""
    commits: tuple[str, ...]
    """Commits that the records name."""
    resources: tuple[Resource, ...]
    dictionary: tuple[Column, ...]


def data_package(title: str, folder: Path, made: Mapping[str, bytes]) -> bytes:
    """Return the text of the file for the run in ``folder``, of which a report ``made`` files."""
    measured = {path: (folder / path).read_bytes() for path in evidence_of(folder)}
    origins = [origin for text in measured.values() for origin in origins_in(text)]
    package = DataPackage(
        title=title,
        code=distinct(origins, "code"),
        commits=distinct(origins, "git_commit"),
        resources=tuple(
            _resource(path, text, is_lines=path in measured and path.endswith(".jsonl"))
            for path, text in sorted({**measured, **made}.items())
        ),
        dictionary=dictionary(),
    )
    return msgspec.json.format(msgspec.json.encode(package), indent=1) + b"\n"


class _Line(Struct):
    environment: dict[str, object] = {}


def origins_in(text: bytes) -> list[dict[str, object]]:
    """Return the environment of each line of JSON; lines that are none have none."""
    origins = []
    for line in text.splitlines():
        with contextlib.suppress(msgspec.MsgspecError):
            origins.append(msgspec.json.decode(line, type=_Line).environment)
    return origins


def distinct(origins: Iterable[Mapping[str, object]], key: str) -> tuple[str, ...]:
    """Return the different values of ``key``, sorted."""
    return tuple(sorted({str(origin.get(key) or UNKNOWN) for origin in origins}))


def _resource(path: str, text: bytes, *, is_lines: bool) -> Resource:
    name = "".join(letter if letter.isalnum() else "-" for letter in path.lower())
    lines = len(text.splitlines()) if is_lines else None
    return Resource(name=name, path=path, bytes=len(text), hash=checksum(text), lines=lines)


def checksum(text: bytes) -> str:
    """Return the checksum in the form of a data package."""
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


def evidence_of(folder: Path) -> list[str]:
    """Return the files of a run that were measured, as paths below ``folder``."""
    patterns = [*EVIDENCE, f"{EVENTS}/*.csv"]
    found = [path for one in patterns for path in (*folder.glob(one), *folder.glob(f"*/{one}"))]
    return sorted(path.relative_to(folder).as_posix() for path in found)


def read_data_package(folder: Path) -> DataPackage:
    """Return what the file in ``folder`` lists."""
    return read_written(folder / DATA_PACKAGE, DataPackage)
