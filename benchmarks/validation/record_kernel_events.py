"""Record in which order the kernel cases allocate and free on the pretended GPU, as JSON.

    python -m benchmarks.validation.dry_run -m benchmarks.validation.record_kernel_events FILE

FILE is read first and its other versions of PyTorch are kept.
"""

import gc
import json
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.validation.kernel_cases import ATTENTION, CASES, Case


def record(case: Case) -> list[int]:
    """Return the bytes of each block allocated, and minus those of each freed, in order."""
    gc.collect()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    torch.cuda.memory._record_memory_history("all", context=None)
    case(lambda _: None)
    snapshot: Any = torch.cuda.memory._snapshot
    history = snapshot()["device_traces"][0]
    torch.cuda.memory._record_memory_history(None)
    signs = {"alloc": 1, "free_requested": -1}
    return [signs[e["action"]] * e["size"] for e in history if e["action"] in signs]


def _lines(cases: dict[str, list[int]]) -> str:
    """Return a line for each case."""
    compact = (",", ":")
    return ",\n".join(
        f"{json.dumps(name)}: {json.dumps(events, separators=compact)}"
        for name, events in cases.items()
    )


def main() -> int:
    """Record the cases on this version."""
    torch.backends.cudnn.enabled = False
    torch.zeros(1, device="cuda")
    path = Path(sys.argv[1])
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    version = ".".join(torch.__version__.split(".")[:2])
    found[version] = {name: record(case) for name, case in {**CASES, **ATTENTION}.items()}
    versions = [f'"{version}": {{\n{_lines(cases)}\n}}' for version, cases in found.items()]
    path.write_text("{\n" + ",\n".join(versions) + "\n}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
