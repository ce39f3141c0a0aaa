"""Predicts or measures the memory of a step in a test, and reads and writes the baseline file."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from filelock import FileLock
from msgspec import Struct

from harness.prediction.versions import torch_version
from harness.schema.errors import HarnessError
from harness.schema.layer_names import common_name, pattern
from harness.schema.sizes import Bytes
from harness.schema.step_report import Method, StepReport
from harness.schema.unique_keys import read_json
from harness.schema.units import format_bytes

_LAYERS_NAMED = 3
SCHEMA = 1
"""Version of the format of the baseline file."""


class MemoryUse(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry of the baseline file: the peak of a training step, and the bytes of each layer.

    Attributes:
        peak_bytes: peak of live bytes on the CPU, or of allocated bytes on a GPU.
        layers: requested bytes that are alive at the peak, by the layer that requested them.
        torch: version of PyTorch with which the bytes were predicted or measured.
    """

    peak_bytes: Bytes
    layers: dict[str, Bytes]
    method: Method
    gpu: str | None = None
    torch: str | None = None


def growth(use: MemoryUse, baseline: MemoryUse) -> list[str]:
    """Return sentences about the layers that grew most since the baseline, largest growth first."""
    rows: dict[tuple[str, int, int | None], list[str]] = {}
    grown = {name: size - baseline.layers.get(name, 0) for name, size in use.layers.items()}
    for name in sorted(grown, key=lambda name: (-grown[name], name)):
        if grown[name] > 0:
            key = pattern(name), use.layers[name], baseline.layers.get(name)
            rows.setdefault(key, []).append(name)
    return [
        f"{_named(names)} is new, with {format_bytes(size)}"
        if before is None
        else f"{_named(names)} grew by {format_bytes(size - before)} "
        f"({format_bytes(before)} to {format_bytes(size)})"
        for (_, size, before), names in [*rows.items()][:_LAYERS_NAMED]
    ]


def _named(names: Sequence[str]) -> str:
    """Return the name of a layer, or a common name for equal layers with the same change."""
    if len(names) == 1:
        return f"layer {names[0]}"
    return f"each of the {len(names)} layers {common_name(names)}"


def largest(use: MemoryUse) -> list[str]:
    """Return a sentence for each of the layers with the most bytes alive at the peak."""
    order = sorted(use.layers, key=lambda name: (-use.layers[name], name))
    return [
        f"layer {name} holds {format_bytes(use.layers[name])}" for name in order[:_LAYERS_NAMED]
    ]


class BaselineError(HarnessError, ValueError):
    """The baseline file cannot be read or written, or has the wrong format."""


class MeasureError(HarnessError):
    """The step cannot be measured on this machine; the message gives the reason in one line."""


def predicted(
    build: Callable[[], Any], batch: int = 1, *, gpu: str | None, **step: Any
) -> MemoryUse:
    """Return the memory of a step as ``harness.predict`` predicts it."""
    from harness.planning.predict import predict

    return _use(predict(build, batch, gpu=gpu, **step), gpu)


def measured(
    build: Callable[[], Any], batch: int = 1, *, gpu: str | None, **step: Any
) -> MemoryUse:
    """Return the memory of a step that runs on this machine's CPU or GPU."""
    from harness.planning.measure_step import measure
    from harness.processes.environment import has_gpu

    if gpu is not None and not has_gpu():
        raise MeasureError("measuring a step on a GPU needs a CUDA device; predict it instead")
    report = measure(build, batch, device="cpu" if gpu is None else "cuda", **step)
    if report.trace is None:
        raise MeasureError(f"the step was not measured: {report.reason}")
    return _use(report, gpu)


def _use(report: StepReport, gpu: str | None) -> MemoryUse:
    peak = None if report.cuda is None else report.cuda.allocated_peak_bytes
    layers = {name or "(network)": size for name, size in report.bytes_at_peak("module").items()}
    return MemoryUse(
        peak_bytes=(report.peak_live_bytes or 0) if peak is None else peak,
        layers=layers,
        method=report.method,
        gpu=gpu,
        torch=torch_version(),
    )


class _File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: int
    tests: dict[str, MemoryUse]


class Baseline:
    """A baseline file in sorted JSON; a change in one test changes few lines of the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, name: str) -> MemoryUse | None:
        """Return the entry of a test, or None if the test has no entry."""
        return self._read().get(name)

    def put(self, name: str, use: MemoryUse) -> None:
        """Write the entry of a test, without changes to other entries."""
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
    """Return a lock file for processes of this user, in the folder for temporary files."""
    user = os.getuid() if hasattr(os, "getuid") else ""
    place = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"memory-baseline-{user}-{place}.lock"
