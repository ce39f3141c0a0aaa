"""Asks the installed cuDNN for the workspaces of convolutions, without PyTorch, GPU or stub.

Run as a program: it reads ``{"folder": ..., "device": ..., "convolutions": [...]}`` from standard
input and writes the workspaces of each convolution's engines, in PyTorch's order: those of the
heuristics that can be finalized, without those that round their inputs, then the fallbacks.
"""

import ctypes
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DATA = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 9}
DATA_TYPE, INT64, FLOAT, DOUBLE, MODE = 1, 3, 4, 5, 7
HEURISTIC, NOTE, DESCRIPTOR, CHAR = 8, 11, 15, 24
C_TYPES: dict[int, Any] = {INT64: ctypes.c_int64, FLOAT: ctypes.c_float, DOUBLE: ctypes.c_double}
C_TYPES |= {DESCRIPTOR: ctypes.c_void_p, CHAR: ctypes.c_char}
KINDS = {"forward": (10, 700), "data": (12, 706), "weight": (11, 712)}
"""Descriptor of an operation, and its first attribute: alpha, beta, convolution, three tensors."""


class Cudnn:
    """The graph interface, as far as a convolution needs it."""

    def __init__(self, folder: Path, device: dict[str, Any]) -> None:
        names = "graph ops engines_precompiled engines_runtime_compiled engines_tensor_ir heuristic"
        found = [path for name in names.split() for path in folder.glob(f"libcudnn_{name}.so.*")]
        self._calls, *_ = [ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL) for path in found]
        text = json.dumps(device).encode()
        self._device = self.made(38, (2702, CHAR, text))

    def made(self, kind: int, *attributes: tuple[int, int, Any]) -> ctypes.c_void_p:
        """Return a descriptor with these attributes."""
        one = ctypes.c_void_p()
        self._check(self._calls.cudnnBackendCreateDescriptor(kind, ctypes.byref(one)))
        for name, type_, value in attributes:
            values = list(value) if isinstance(value, (list, tuple, bytes)) else [value]
            array = (C_TYPES.get(type_, ctypes.c_int32) * len(values))(*values)
            set_attribute = self._calls.cudnnBackendSetAttribute
            self._check(set_attribute(one, name, type_, ctypes.c_int64(len(values)), array))
        self._check(self._calls.cudnnBackendFinalize(one))
        return one

    def got(self, one: Any, name: int, type_: int, values: Any, wanted: int) -> int:
        """Fill ``values``; return how many there are."""
        count = ctypes.c_int64()
        get = self._calls.cudnnBackendGetAttribute
        self._check(get(one, name, type_, ctypes.c_int64(wanted), ctypes.byref(count), values))
        return count.value

    @staticmethod
    def _check(status: int) -> None:
        if status:
            raise OSError(status, "cuDNN")

    def graph(self, one: dict[str, Any]) -> ctypes.c_void_p:
        """Return the operation graph of a convolution."""
        data = DATA[one["dtype"]]

        def tensor(name: str) -> ctypes.c_void_p:
            sizes, strides = one[name]
            values = (901, DATA_TYPE, data), (902, INT64, sizes), (903, INT64, strides)
            return self.made(17, *values, (906, INT64, ord(name)), (900, INT64, 32))

        is_double = data == 1
        values = [(100, DATA_TYPE, int(is_double)), (101, MODE, 1)]
        values += [(106, INT64, len(one["stride"])), (103, INT64, one["stride"])]
        values += [(102, INT64, one["dilation"])]
        values += [(105, INT64, one["padding"]), (104, INT64, one["padding"])]
        convolution = self.made(1, *values)
        kind, first = KINDS[one["kind"]]
        scale = DOUBLE if is_double else FLOAT
        members = [(first + 3 + i, DESCRIPTOR, tensor(name).value) for i, name in enumerate("wxy")]
        scales = (first, scale, 1.0), (first + 1, scale, 0.0)
        operation = self.made(kind, *scales, (first + 2, DESCRIPTOR, convolution.value), *members)
        return self.made(15, (801, DESCRIPTOR, operation.value))

    def plans(self, graph: ctypes.c_void_p, mode: int, tf32: bool) -> Iterator[int]:
        """Yield the workspace of each plan that PyTorch would take, best first."""
        device = DESCRIPTOR, self._device.value
        values = (201, DESCRIPTOR, graph.value), (200, HEURISTIC, mode), (204, *device)
        heuristics = self.made(4, *values)
        count = self.got(heuristics, 202, DESCRIPTOR, None, 0)
        empty = []
        for _ in range(count):
            one = ctypes.c_void_p()
            self._check(self._calls.cudnnBackendCreateDescriptor(3, ctypes.byref(one)))
            empty.append(one.value)
        found = (ctypes.c_void_p * count)(*empty)
        count = self.got(heuristics, 202, DESCRIPTOR, found, count)
        for choice in found[:count]:
            engine = ctypes.c_void_p()
            self._check(self._calls.cudnnBackendCreateDescriptor(2, ctypes.byref(engine)))
            self.got(ctypes.c_void_p(choice), 300, DESCRIPTOR, ctypes.byref(engine), 1)
            notes = (ctypes.c_int32 * 10)()
            noted = notes[: self.got(engine, 1303, NOTE, notes, 10)]
            if 1 in noted or (0 in noted and not tf32):
                continue
            size = ctypes.c_int64()
            try:
                plan = self.made(5, (407, *device), (401, DESCRIPTOR, choice))
                self.got(plan, 402, INT64, ctypes.byref(size), 1)
            except OSError:
                continue
            yield size.value

    def answer(self, one: dict[str, Any]) -> list[int]:
        """Return the workspaces of all engines that PyTorch tries; it takes the first."""
        graph, tf32 = self.graph(one), one.get("tf32", True)
        return [size for mode in (0, 2) for size in self.plans(graph, mode, tf32)]


if __name__ == "__main__":
    request = json.load(sys.stdin)
    cudnn = Cudnn(Path(request["folder"]), request["device"])
    json.dump([cudnn.answer(one) for one in request["convolutions"]], sys.stdout)
