"""The baseline file: what each test's model needed when somebody last looked at it."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec
from filelock import FileLock
from msgspec import Struct

from harness.budgets.step_memory import MemoryUse
from harness.schema.errors import HarnessError
from harness.schema.unique_keys import read_json

SCHEMA = 1


class BaselineError(HarnessError, ValueError):
    """The baseline file cannot be read or written, or is not one."""


class _File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: int
    tests: dict[str, MemoryUse]


class Baseline:
    """One JSON file, sorted so that a change of one test changes few lines."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, name: str) -> MemoryUse | None:
        """Return a test's entry, None where it has none."""
        return self._read().get(name)

    def put(self, name: str, use: MemoryUse) -> None:
        """Write a test's entry; the others stay as they are."""
        with FileLock(_lock_file(self.path)):
            tests = {**self._read(), name: use}
            encoded = msgspec.json.encode(_File(schema=SCHEMA, tests=tests), order="sorted")
            temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}")
            try:
                temporary.write_bytes(msgspec.json.format(encoded, indent=2) + b"\n")
                temporary.replace(self.path)
            except OSError as error:
                raise BaselineError(f"{self.path}: {error.strerror or error}") from None
            finally:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)

    def _read(self) -> Mapping[str, MemoryUse]:
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise BaselineError(f"{self.path}: {error.strerror or error}") from None
        try:
            plain = read_json(text)
            if not isinstance(plain, dict) or plain.get("schema") != SCHEMA:
                raise ValueError(f"its schema is not {SCHEMA}")
            return msgspec.json.decode(text, type=_File).tests
        except ValueError as error:  # msgspec's errors too
            raise BaselineError(f"{self.path} is no memory baseline: {error}") from None


def _lock_file(path: Path) -> Path:
    """Return a file outside the user's repository that the processes of this user lock."""
    user = os.getuid() if hasattr(os, "getuid") else ""
    place = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"memory-baseline-{user}-{place}.lock"
