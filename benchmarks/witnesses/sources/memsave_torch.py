"""memsave_torch: memory after a forward pass of CNNs of which some parameters are trained.

Its own script runs here. The GPU is not named; one of capability 8.6 with 48 GiB is pretended.
"""

import functools
import io
import tarfile
import tempfile
from pathlib import Path

import pandas as pd

from benchmarks.witnesses.clones import archive_of, text_of
from benchmarks.witnesses.printed import output_of
from benchmarks.witnesses.rows import RefusedError, Row, Sizes, Source

TABLE = "results/paper/poster.csv"
CNNS = ("efficientnet_v2_l", "resnet101", "resnext101_64x4d")
"""Models of torchvision. The two others of the table have their configurations on a hub."""
_FROZEN = [f"no_grad_{kind}_{part}" for kind in ("conv", "linear") for part in ("weights", "bias")]
CASES = {
    "All": [],
    "Input": ["grad_input", *_FROZEN, "no_grad_norm_weights", "no_grad_norm_bias"],
    "Norm": _FROZEN,
    "Surgical": ["surgical_first"],
}


def rows(clone: Path) -> list[Row]:
    """Return a row for each CNN, with PyTorch's layers and with those of the package."""
    table = pd.read_csv(io.StringIO(text_of(clone, SOURCE.commit, TABLE)))
    return [
        Row(
            source=SOURCE.name,
            name=f"{model}, {case}",
            metric="allocated",
            measured_bytes=round(gib * (1 << 30)),
            resolution_bytes=1,
            run=functools.partial(_sizes, clone, model, case),
            traits={"model": model, "case": case},
        )
        for clean, model, case, gib in zip(
            table["model_clean"],
            table["model"],
            table["case"],
            table["Memory Usage (GB)"],
            strict=True,
        )
        if clean in CNNS
    ]


def _sizes(clone: Path, model: str, case: str) -> Sizes:
    with tempfile.TemporaryDirectory() as folder:
        data = archive_of(clone, SOURCE.commit, ["experiments", "memsave_torch"])
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            archive.extractall(folder, filter="data")
        Path(folder, "results").mkdir()
        name, _, evaluates = case.partition(" (BN Eval")
        words = ["--architecture=conv", f"--model={model}", "--estimate=memory", "--device=cuda"]
        words += ["-B=64", "-C_in=3", "-HW=224", "-n_class=1000", "--print"]
        words += ["--bn_eval"] if evaluates else []
        words += ["--case", *CASES[name]] if CASES[name] else []
        script = Path(folder, "start.py")
        script.write_text(_START)
        said = output_of(script, SOURCE.gpu, ["--memory=48GiB"], words)
    numbers = [line for line in said.splitlines() if line.replace(".", "").isdigit()]
    if not numbers:
        raise RefusedError("its script prints no number")
    return {"allocated": round(float(numbers[0]) * (1 << 20))}


_START = """
import runpy, sys
sys.path.insert(0, "")
import experiments
experiments.__path__ = ["experiments"]  # another package has this name, too
runpy.run_path("experiments/util/estimate.py", run_name="__main__")
"""

SOURCE = Source(
    name="memsave-torch",
    repository="https://github.com/plutonium-239/memsave_torch",
    commit="154f88c",
    paths=(TABLE,),
    licence="MIT",
    made="a GPU that is not named, torch of 2024: 64 pictures; torch.cuda.max_memory_allocated",
    gpu="a10",
    rows=rows,
    scripts=True,
)
