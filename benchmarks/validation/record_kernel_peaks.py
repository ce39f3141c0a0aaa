"""Run the kernel cases on the (pretended) GPU; write the requested peak of each part as JSON.

    run.sh VENV -m benchmarks.validation.record_kernel_peaks FILE all|attention

cuDNN is off: the dry run has none. FILE is read first and its other capabilities are kept.
"""

import gc
import json
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.validation.kernel_cases import ATTENTION, CASES, Case


def record(case: Case) -> list[int]:
    """Return the peak of requested bytes in each part, above what was there before."""
    gc.collect()
    torch.cuda.empty_cache()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.reset_peak_memory_stats()
    before = int(torch.cuda.memory_stats()["requested_bytes.all.current"])
    peaks: list[int] = []

    def phase(_: str) -> None:
        peaks.append(int(torch.cuda.memory_stats()["requested_bytes.all.peak"]) - before)
        torch.cuda.reset_peak_memory_stats()

    case(phase)
    return peaks


def main() -> int:
    """Record the cases of one capability."""
    torch.backends.cudnn.enabled = False
    torch.zeros(1, device="cuda")
    path, kinds = Path(sys.argv[1]), sys.argv[2]
    cases = ATTENTION if kinds == "attention" else {**CASES, **ATTENTION}
    major, minor = torch.cuda.get_device_capability()
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    found["torch"] = torch.__version__.partition("+")[0]
    properties = torch.cuda.get_device_properties(0)
    key = f"{major}.{minor}, {properties.multi_processor_count}"
    found[key] = {name: record(case) for name, case in cases.items()}
    path.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
