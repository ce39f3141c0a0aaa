"""A Llama of 32 layers whose backward pass is planned by activation budgets, on a small GPU."""

import functools
from pathlib import Path
from typing import Any

from benchmarks.witnesses.rows import RefusedError, Row, Sizes, Source

LAYERS, BATCH, TOKENS = 32, 2, 1_024
HELD_BYTES = 221_613_056
"""Published bytes of parameters and gradients, which are alive between two steps."""
PEAKS_BYTES: dict[float | None, int] = {
    None: 1_642_860_544,
    0.05: 1_367_012_864,
    0.1: 729_847_296,
    0.15: 496_384_000,
    0.2: 546_846_720,
    0.25: 581_056_512,
    0.3: 632_698_880,
    0.35: 678_180_864,
}
"""Published peaks by budget; None is the step without a budget. Published runs of the same budget
differ by up to 524,288 bytes (``results/measured_backward/README.md``)."""


def rows(clone: Path) -> list[Row]:
    """Return a row for each budget."""
    del clone
    return [
        Row(
            source=SOURCE.name,
            name="as written" if budget is None else f"budget {budget:g}",
            metric="allocated",
            measured_bytes=peak,
            resolution_bytes=1,
            run=functools.partial(_sizes, budget),
            traits={"budget": "none" if budget is None else f"{budget:g}"},
        )
        for budget, peak in PEAKS_BYTES.items()
    ]


def _sizes(budget: float | None) -> Sizes:
    import harness

    report = harness.dry_run(_peaks, budget, gpu="gtx1650", quiet=True, answers={"*": 0.0})
    if report.outcome != "ok":
        raise RefusedError(f"{report.outcome}: {report.evidence}")
    returned: Any = report.returned
    held, peak = returned
    if held != HELD_BYTES:
        raise RefusedError(f"{held:,} bytes are held, not {HELD_BYTES:,}")
    return {"allocated": peak}


def _peaks(budget: float | None) -> tuple[int, int]:
    """Run two steps as the authors do; return the bytes between them, and the second's peak."""
    import torch
    from torch._functorch import config
    from transformers import LlamaConfig, LlamaModel

    size = {"hidden_size": 256, "intermediate_size": 688, "num_attention_heads": 8}
    llama = LlamaConfig(
        **size, num_hidden_layers=LAYERS, num_key_value_heads=8, vocab_size=1_000, use_cache=False
    )
    network: Any = LlamaModel(llama).to("cuda")
    tokens = torch.zeros(BATCH, TOKENS, dtype=torch.int64, device="cuda")

    def loss(ids: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = network(input_ids=ids).last_hidden_state.sum()
        return total

    step: Any = loss
    if budget is not None:
        config.activation_memory_budget = budget
        step = torch.compile(loss, backend="aot_eager", dynamic=False)
    step(tokens).backward()
    network.zero_grad(set_to_none=False)
    torch.cuda.empty_cache()
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step(tokens).backward()
    return held, torch.cuda.max_memory_allocated()


SOURCE = Source(
    name="ackaudit",
    repository="https://github.com/siddddd17/ackaudit",
    commit="9f10fc9",
    paths=(
        "results/measured_backward/fine/llama_scale8.json",
        "results/measured_backward/endpoints/llama_scale8_eager.json",
    ),
    licence="none",
    made="GTX 1650, torch 2.14.0: batch 2, 1,024 tokens, aot_eager; peaks of the second step",
    gpu="gtx1650",
    rows=rows,
    cited=True,
    scripts=True,
)
