"""The baseline file: what each test's model needed when somebody last looked at it."""

import json
import os
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.budgets.memory_use import MemoryUse
from harness.schema.errors import HarnessError

SCHEMA = 1


class BaselineError(HarnessError, ValueError):
    """The baseline file cannot be read or is not one."""


class Baseline:
    """One JSON file, sorted so that a change of one test changes few lines.

    Several processes (pytest-xdist) may update it at a time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, name: str) -> MemoryUse | None:
        """Return a test's entry, None where it has none.

        Raises:
            BaselineError: the file is damaged; one line.

        """
        entry = self._read().get(name)
        if entry is None:
            return None
        try:
            layers = {str(key): int(size) for key, size in entry["layers"].items()}
            return MemoryUse(
                peak_bytes=int(entry["peak_bytes"]),
                layers=layers,
                method=entry["method"],
                gpu=entry["gpu"],
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            raise BaselineError(f"{self.path}: the entry {name!r} is damaged") from None

    def put(self, name: str, use: MemoryUse) -> None:
        """Write a test's entry; the others stay as they are."""
        with FileLock(f"{self.path}.lock"):
            tests = self._read() | {name: use.as_dict()}
            text = json.dumps({"schema": SCHEMA, "tests": tests}, indent=2, sort_keys=True)
            temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}")
            temporary.write_text(text + "\n", encoding="utf-8")
            temporary.replace(self.path)

    def _read(self) -> dict[str, Any]:
        if not self.path.exists():
            return {}
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BaselineError(f"{self.path} is no memory baseline: {error}") from None
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            raise BaselineError(f"{self.path} is no memory baseline of schema {SCHEMA}")
        tests = found.get("tests")
        if not isinstance(tests, dict):
            raise BaselineError(f"{self.path} is no memory baseline: it has no tests")
        return tests
