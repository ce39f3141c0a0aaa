"""ZeRO 2019: mixed precision with Adam takes 2 + 2 + 12 = 16 bytes per parameter.

Each recipe keeps parameters, gradients and optimizer states between two steps. During the update,
PyTorch's default AdamW on CUDA also allocates temporaries of the size of all parameters.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from harness.analysis.step_runs import Steps
from harness.schema.experiment import Size
from harness.schema.findings import Figure, Judgement
from harness.schema.traced_run import StepJob

from .judgements import at, by_law, claim_experiment, decided_by, listed, near
from .pictures import picture


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A recipe for training, with its expected bytes per parameter."""

    dtype: str
    optimizer: str
    held: int
    update: int
    """Expected bytes per parameter during the optimizer's update on CUDA."""
    autocast: str | None = None


RECIPES = {
    "ZeRO's: 16-bit weights and gradients": Recipe(
        dtype="bfloat16", optimizer=".networks:zero_adamw", held=16, update=24
    ),
    "the same, fused AdamW": Recipe(
        dtype="bfloat16", optimizer=".networks:zero_fused_adamw", held=16, update=20
    ),
    "Megatron's: float32 gradients kept": Recipe(
        dtype="bfloat16", optimizer=".networks:megatron_adamw", held=18, update=22
    ),
    "float32": Recipe(dtype="float32", optimizer="adamw", held=16, update=20),
    "float32, fused AdamW": Recipe(
        dtype="float32", optimizer=".networks:fused_adamw", held=16, update=16
    ),
    "autocast of float32": Recipe(
        dtype="float32", optimizer="adamw", held=16, update=20, autocast="bfloat16"
    ),
    "all in bfloat16": Recipe(dtype="bfloat16", optimizer="adamw", held=8, update=10),
}
PAPER = next(iter(RECIPES))
MIXED = {
    PAPER: "ZeRO's recipe",
    "Megatron's: float32 gradients kept": "Megatron's, which keeps float32 gradients",
    "autocast of float32": "autocast",
}
"""Recipes that the claim is about (all in mixed precision), and their names in the verdict."""

LAYERS, WIDTHS = 8, {Size.QUICK: 1024, Size.DEFAULT: 4096}


def job(recipe: Recipe, width: int, device: str) -> StepJob:
    """Return a step with one example, so that activations are negligible."""
    return StepJob(
        network=".networks:chain",
        arguments={"depth": LAYERS, "width": width, "dtype": recipe.dtype},
        batch=1,
        inputs=(f"{recipe.dtype}:{width}",),
        optimizer=recipe.optimizer,
        autocast="bfloat16" if recipe.autocast else None,
        loss="sum",
        device="cuda" if device == "cuda" else "cpu",
    )


def jobs(size: Size) -> Iterable[StepJob]:
    """Yield every recipe: on CUDA, and with a smaller network on the CPU."""
    for recipe in RECIPES.values():
        yield job(recipe, 256, "cpu")
        for width in sorted({WIDTHS[Size.QUICK], at(WIDTHS, size)}):
            yield job(recipe, width, "cuda")


def parameters(width: int) -> int:
    """Return the number of parameters of the chain of linear layers."""
    return LAYERS * (width * width + width)


def batch_bytes(recipe: Recipe, width: int) -> int:
    """Return the bytes of the only example and its label."""
    return width * (2 if recipe.dtype == "bfloat16" else 4) + 8


def table_of(steps: Steps, width: int) -> pd.DataFrame:
    """For each recipe, return the bytes between steps and in the update, also per parameter."""
    rows = []
    for name, recipe in RECIPES.items():
        gpu, cpu = steps.metrics(job(recipe, width, "cuda")), steps.metrics(job(recipe, 256, "cpu"))
        phases = gpu.phases or {}
        state = gpu.categories_at_peak.optimizer_state if gpu.categories_at_peak else 0
        outside = batch_bytes(recipe, width)
        held = (gpu.live_at_start_bytes or 0) - outside
        update = phases["optimizer"].peak_live_bytes - outside
        on_cpu = (cpu.live_at_start_bytes or 0) - batch_bytes(recipe, 256)
        rows.append(
            {
                "recipe": name,
                "held_a_parameter": held / parameters(width),
                "update_a_parameter": update / parameters(width),
                "parameter": parameters(width) * (2 if recipe.dtype == "bfloat16" else 4),
                "optimizer_state": state,
                "held_bytes": held,
                "held_law_bytes": recipe.held * parameters(width) + step_bytes(recipe),
                "update_bytes": update,
                "update_law_bytes": recipe.update * parameters(width) + step_bytes(recipe),
                "cpu_held_bytes": on_cpu,
                "cpu_held_law_bytes": recipe.held * parameters(256) + 4 * 2 * LAYERS,
            }
        )
    return pd.DataFrame(rows)


def step_bytes(recipe: Recipe) -> int:
    """Return the bytes of step counters on the GPU; only fused AdamW keeps step counters there."""
    return 4 * 2 * LAYERS if "fused" in recipe.optimizer else 0


def judge(steps: Steps, size: Size) -> Judgement:
    """Compare each mixed-precision recipe's bytes between steps with 16 bytes per parameter."""
    table = table_of(steps, at(WIDTHS, size))
    mixed = table[table["recipe"].isin(MIXED)].replace({"recipe": MIXED})
    cases = mixed.assign(holds=near(mixed["held_a_parameter"], 16))
    words = "; ".join(
        f"{row.held_a_parameter:.2f} between steps, {row.update_a_parameter:.2f} at the update "
        f"({row.recipe})"
        for row in table.itertuples()
    )
    paper = table[table["recipe"] == PAPER].iloc[0]
    return Judgement(
        **decided_by(cases, ["recipe"]),
        number=f"{paper['held_a_parameter']:.2f} B held, {paper['update_a_parameter']:.2f} B at "
        "the update",
        measured=f"On CUDA a parameter takes these numbers of bytes: {words}.",
        checks=by_law(
            table,
            {
                "held": "held on CUDA in bytes",
                "update": "peak of the update on CUDA in bytes",
                "cpu_held": "held on the CPU in bytes",
            },
        ),
        figures=(_figure(table),),
        tables=(listed("recipes", "Bytes by recipe", table, "parameter", "optimizer_state"),),
    )


def _figure(table: pd.DataFrame) -> Figure:
    data = table.assign(
        panel="Bytes at the update",
        gradient=table["held_bytes"] - table["parameter"] - table["optimizer_state"],
        temporary=table["update_bytes"] - table["held_bytes"],
    )
    columns = ["panel", "recipe", "parameter", "gradient", "optimizer_state", "temporary"]
    return picture("sixteen_bytes", data[columns], layers=LAYERS)


EXPERIMENT = claim_experiment("sixteen_bytes", jobs=jobs, judge=judge)
