"""Exact peaks of the allocator in torch-preflight's eight training steps on a T4."""

import contextlib
import functools
import io
import json
import tempfile
import types
from pathlib import Path

from benchmarks.witnesses.clones import text_of
from benchmarks.witnesses.rows import RefusedError, Row, Sizes, Source

SCRIPT = "tests/calibration/measure_cuda.py"
PATH = "tests/calibration/measured_peaks.json"


def rows(clone: Path) -> list[Row]:
    """Return two rows for each run, for allocated and reserved bytes."""
    runs = json.loads(text_of(clone, SOURCE.commit, PATH))["runs"]
    return [
        Row(
            source=SOURCE.name,
            name=f"{run['model']}, batch {run['config']['batch_size']}, {metric}",
            metric="allocated" if metric == "allocated" else "reserved",
            measured_bytes=run[f"measured_{metric}_bytes"],
            resolution_bytes=1,
            run=functools.partial(_sizes, clone, run["model"], run["config"]["batch_size"]),
            traits={"network": run["model"], "batch": run["config"]["batch_size"]},
        )
        for run in runs
        for metric in ("allocated", "reserved")
    ]


def _sizes(clone: Path, model: str, batch: int) -> Sizes:
    try:
        return _published_run(clone)[model, batch]
    except KeyError as error:
        raise RefusedError("the script skipped it: transformers is not installed") from error


@functools.cache
def _published_run(clone: Path) -> dict[tuple[str, int], Sizes]:
    """Run the authors' own script, which measures all models in one process."""
    script = types.ModuleType("measure_cuda")
    exec(text_of(clone, SOURCE.commit, SCRIPT), script.__dict__)
    vars(script).update(lm_head_sweep=lambda _: [], guard_accuracy_case=lambda _: None)
    _make_models_from_their_configurations()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        with contextlib.redirect_stdout(io.StringIO()):
            script.main(["--models", "--out", str(out)])
        runs = json.loads(out.read_text())["runs"]
    return {
        (run["model"], run["config"]["batch_size"]): {
            "allocated": run["measured_allocated_bytes"],
            "reserved": run["measured_reserved_bytes"],
        }
        for run in runs
    }


def _make_models_from_their_configurations() -> None:
    """Make Transformers build its models without the hub, because weights do not matter here."""
    try:
        import transformers
    except ImportError:
        return
    configurations = {
        "gpt2": transformers.GPT2Config,
        "distilbert-base-uncased": transformers.DistilBertConfig,
        "bert-base-uncased": transformers.BertConfig,
    }
    for kind in (transformers.AutoModel, transformers.AutoModelForCausalLM):
        kind.from_pretrained = lambda name, kind=kind: kind.from_config(configurations[name]())


SOURCE = Source(
    name="torch-preflight-t4",
    repository="https://github.com/highwaterlabs/torch-preflight",
    commit="774b839",
    paths=(PATH,),
    licence="MIT",
    made="Tesla T4, torch 2.11.0+cu128: AdamW, bfloat16 autocast; peaks of the second step",
    gpu="t4",
    rows=rows,
)
