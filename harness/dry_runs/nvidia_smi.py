"""A replacement for ``nvidia-smi`` that shows the pretended GPUs.

A dry run puts this program on the script's PATH. The program imports no harness module and reads
all values from the driver stub, which implements NVML. Unknown options are reported as unsupported.
"""

import argparse
import ctypes
import re
import sys
from pathlib import Path

_CAPABILITY, _CLOCKS_KHZ = (75, 76), (13, 36)
"""Attributes of cuDeviceGetAttribute."""


def folder_of_program(folder: Path) -> None:
    """Create a folder that contains the program and can be added to the PATH."""
    folder.mkdir(parents=True)
    program = folder / "nvidia-smi"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{__file__}" "$@"\n')
    program.chmod(0o700)


def _facts(stub: ctypes.CDLL, index: int, count: int) -> dict[str, str]:
    """Return a GPU's values with units, by the names of ``nvidia-smi``'s query fields."""
    device = ctypes.c_void_p()
    stub.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device))
    name, uuid = ctypes.create_string_buffer(96), ctypes.create_string_buffer(96)
    stub.nvmlDeviceGetName(device, name, len(name))
    stub.nvmlDeviceGetUUID(device, uuid, len(uuid))
    memory = (ctypes.c_ulonglong * 3)()
    stub.nvmlDeviceGetMemoryInfo(device, memory)

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        stub.cuDeviceGetAttribute(ctypes.byref(value), number, index)
        return value.value

    sm, of_memory = (attribute(number) // 1000 for number in _CLOCKS_KHZ)
    kinds = zip(("total", "free", "used"), memory, strict=True)
    return {
        "index": str(index),
        "count": str(count),
        **dict.fromkeys(("name", "gpu_name"), name.value.decode()),
        **dict.fromkeys(("uuid", "gpu_uuid"), uuid.value.decode()),
        "driver_version": "000.00",
        "compute_cap": ".".join(str(attribute(number)) for number in _CAPABILITY),
        "clocks.max.sm": f"{sm} MHz",
        "clocks.max.memory": f"{of_memory} MHz",
        **{f"memory.{kind}": f"{size >> 20} MiB" for kind, size in kinds},
        **dict.fromkeys(("utilization.gpu", "utilization.memory"), "0 %"),
    }


def main() -> int:
    """Print the values that the command line queries; return the exit code."""
    stub, count = ctypes.CDLL(None), ctypes.c_uint()
    stub.nvmlDeviceGetCount_v2(ctypes.byref(count))
    gpus = [_facts(stub, index, count.value) for index in range(count.value)]
    parser = argparse.ArgumentParser("nvidia-smi", add_help=False, allow_abbrev=False)
    parser.add_argument("-L", "--list-gpus", action="store_true")
    parser.add_argument("-i", "--id")
    parser.add_argument("--query-gpu", type=lambda text: [one.strip() for one in text.split(",")])
    parser.add_argument("--format", default="")
    asked, unknown = parser.parse_known_args()
    form = {one.strip() for one in asked.format.split(",")} - {""}
    fields = asked.query_gpu or []
    unknown += sorted({*fields} - {*gpus[0]}) + sorted(form - {"csv", "noheader", "nounits"})
    if unknown or (fields and "csv" not in form):
        question = f"nvidia-smi {' '.join(unknown or ['--query-gpu without --format=csv'])}"
        stub.pretend_unsupported(question.encode())
        return 2
    if asked.id:
        wanted = {*asked.id.split(",")}
        gpus = [one for one in gpus if {one["index"], one["uuid"]} & wanted]
    if fields and "noheader" not in form:
        print(", ".join(fields))
    for gpu in gpus:
        line = f"GPU {gpu['index']}: {gpu['name']} (UUID: {gpu['uuid']})"
        if fields:
            units = r" (MiB|MHz|%)$" if "nounits" in form else "$"
            line = ", ".join(re.sub(units, "", gpu[field]) for field in fields)
        elif not asked.list_gpus:
            line += f" {gpu['memory.used']} / {gpu['memory.total']}"
        print(line)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
