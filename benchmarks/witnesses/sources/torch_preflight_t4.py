"""torch-preflight's eight training steps on a T4: peaks of the allocator, to the byte."""

import functools
import gc
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.witnesses.clones import text_of
from benchmarks.witnesses.rows import RefusedError, Row, Sizes, Source
from benchmarks.witnesses.training import peaks

PATH = "tests/calibration/measured_peaks.json"


def rows(clone: Path) -> list[Row]:
    """Return two rows for each run: allocated and reserved."""
    runs = json.loads(text_of(clone, SOURCE.commit, PATH))["runs"]
    return [
        Row(
            source=SOURCE.name,
            name=f"{run['model']}, batch {run['config']['batch_size']}, {metric}",
            metric="allocated" if metric == "allocated" else "reserved",
            measured_bytes=run[f"measured_{metric}_bytes"],
            resolution_bytes=1,
            run=functools.partial(
                _peaks,
                run["model"],
                run["config"]["batch_size"],
                side=run["config"].get("image_size", 0),
                length=run["config"].get("seq_len", 0),
            ),
            traits={"network": run["model"], "batch": run["config"]["batch_size"]},
        )
        for run in runs
        for metric in ("allocated", "reserved")
    ]


@functools.cache
def _network(name: str) -> nn.Module:
    if name == "resnet50":
        from torchvision.models import resnet50

        return resnet50()  # type: ignore[no-any-return]
    try:
        import transformers
    except ImportError as error:
        raise RefusedError("needs transformers") from error
    made: dict[str, Any] = {
        "gpt2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config()),
        "distilbert-base-uncased": lambda: transformers.DistilBertModel(
            transformers.DistilBertConfig()
        ),
        "bert-base-uncased": lambda: transformers.BertModel(transformers.BertConfig()),
    }
    network: nn.Module = made[name]()
    return network


@functools.cache
def _peaks(name: str, batch: int, *, side: int = 0, length: int = 0) -> Sizes:
    """Train two steps under autocast with AdamW; the peaks are those of the second one."""
    gc.collect()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    model = _network(name).cuda().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    if side:
        inputs = torch.empty(batch, 3, side, side, device="cuda")
        labels = torch.zeros(batch, dtype=torch.int64, device="cuda")
    else:
        inputs = torch.zeros(batch, length, dtype=torch.int64, device="cuda")
        labels = inputs

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = _loss(name, model, inputs, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    try:
        step()
        torch.cuda.reset_peak_memory_stats()
        step()
        return peaks()
    finally:
        optimizer.zero_grad()
        model.cpu()


def _loss(name: str, model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    loss: Tensor
    if name == "gpt2":
        loss = model(input_ids=inputs, labels=labels).loss
    elif name == "resnet50":
        loss = nn.functional.cross_entropy(model(inputs), labels)
    else:
        loss = model(input_ids=inputs).last_hidden_state.float().pow(2).mean()
    return loss


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
