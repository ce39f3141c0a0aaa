"""The training step of public models, eager and compiled by Inductor, under the dry run.

    TORCHINDUCTOR_COMPILE_THREADS=1 \
      python -m benchmarks.validation.compiled_models --out results/cuda-dry-run [NAME ...]

The models are those of ``public_models.py``, in float32, with a batch of 2. Each has a process and
a deadline of its own, and its row is written at once: run the same command again to go on.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.validation.dry_run import parser, write_table
from harness.dry_run import DryRunReport, dry_run

GPU, BATCH, STEPS, DEADLINE_SECONDS = "a100-40gb", 2, 3, 1200.0
HEADS = (
    "model", "outcome", "graphs", "breaks", "recompilations", "eager bytes", "compiled bytes",
    "compiled / eager", "seconds compiling", "seconds", "torch",
)  # fmt: skip


def peaks(name: str) -> list[int]:
    """Return the allocated peak of a steady step, eager and compiled, from an empty cache."""
    import gc
    from contextlib import nullcontext

    import torch

    from benchmarks.validation.public_models import own_step
    from harness.training.module_step import run_step

    own = own_step(f"{name} {BATCH}")
    model = own.network("cuda")

    def steady() -> int:
        step = own.step(model, "cuda")
        for _ in range(STEPS):
            torch.cuda.reset_peak_memory_stats()
            run_step(step, lambda _: nullcontext())
        return torch.cuda.max_memory_allocated()

    eager = steady()
    model.zero_grad(set_to_none=True)
    gc.collect()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    model.compile()
    return [eager, steady()]


def row(name: str, report: DryRunReport) -> list[str]:
    """Return a row of the table; a model of which a part ran uncompiled is not ok."""
    seconds, version = f"{report.wall_seconds or 0:.0f}", report.environment.get("torch", "")
    done = report.compiled
    counts = ["", "", ""]
    if done is not None:
        counts = [str(done.graphs), str(done.breaks), str(done.recompilations)]
    compiling = "" if done is None else f"{done.seconds:.0f}"
    if report.outcome != "ok" or not isinstance(report.returned, list):
        why = f"{report.outcome}: {' '.join((report.evidence or '').split())[:200]}"
        return [name, why, *counts, "", "", "", compiling, seconds, version]
    eager, compiled = report.returned
    outcome = "ok"
    if done is None or not done.graphs:
        outcome = "nothing was compiled"
    elif done.fallbacks:
        outcome = f"not all is compiled: {done.fallbacks[0]}"
    sizes = [f"{eager}", f"{compiled}", f"{compiled / eager:.4f}"]
    return [name, outcome, *counts, *sizes, compiling, seconds, version]


def write(out: Path, rows: Sequence[Sequence[str]], of: int) -> None:
    """Write the table of the rows that there are, ``of`` that many models."""
    good = [each for each in rows if each[1] == "ok"]
    unbroken = sum(each[3] == "0" for each in good)
    ratios = sorted(float(each[7]) for each in good) or [0.0]
    write_table(
        out / "compiled-models",
        "Public models compiled by Inductor under the dry run",
        f"{len(rows)} of the list's {of} models were tried; {len(good)} ran compiled, {unbroken} of"
        f" them without a graph break: a training step with a batch of {BATCH} in float32 on a"
        f" pretended {GPU}. Bytes are the allocated peak of the third step, eager and then"
        " compiled, in one process. A compiled"
        f" step needs {ratios[0]:.2f} to {ratios[-1]:.2f} of the eager one's, the median"
        f" {ratios[len(ratios) // 2]:.2f}. Seconds depend on the load of the machine.",
        HEADS,
        rows,
    )


def main() -> int:
    """Run the models of the command line, or all, that have no row yet."""
    from benchmarks.validation.public_models import names

    known = list(dict.fromkeys(name.partition(" ")[0] for name in names()))
    options = parser(__doc__)
    options.add_argument("names", nargs="*", choices=[*known, []])
    arguments = options.parse_args()
    path = arguments.out / "compiled-models.csv"
    rows = list(csv.reader(path.read_text().splitlines()))[1:] if path.exists() else []
    for name in (arguments.names or known)[:: arguments.every]:
        if any(name == each[0] for each in rows):
            continue
        report = dry_run(peaks, name, gpu=GPU, deadline_seconds=DEADLINE_SECONDS, quiet=True)
        rows.append(row(name, report))
        print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
        rows.sort(key=lambda each: known.index(each[0]))
        write(arguments.out, rows, len(known))
    return 0


if __name__ == "__main__":
    sys.exit(main())
