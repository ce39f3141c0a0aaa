"""Planted runs of ranks and of compiled steps; closed forms against shards cut one by one."""

from pathlib import Path

import torch
from torch import nn

from experiments import distributed_memory
from experiments.compiled_memory.one_gpu import TransformerBlock
from experiments.distributed_memory.network import NAMES
from harness.analysis.step_runs import last_runs

REFERENCE = Path(__file__).parents[2] / "results" / "reference-cuda-dry-run" / "distributed_memory"


def test_the_reference_runs_are_complete_and_equal_to_the_closed_form() -> None:
    runs = last_runs(REFERENCE)
    cells = {(run.job.arguments["strategy"], run.job.arguments["world_size"]) for run in runs}
    assert cells >= {(strategy, size) for strategy in NAMES for size in (1, 8, 64, 1024)}
    table = distributed_memory.as_frame(runs)
    assert len(table) == len(runs)
    assert (table["held_bytes"] == table["closed_form_bytes"]).all()


def test_a_transformer_block_computes_what_pytorch_s_layer_does() -> None:
    torch.manual_seed(0)
    block = TransformerBlock(128).eval()
    layer = nn.TransformerEncoderLayer(
        128, 2, 512, activation="gelu", batch_first=True, norm_first=True
    ).eval()
    ours = {
        "self_attn.in_proj_": block.qkv, "self_attn.out_proj.": block.out,
        "norm1.": block.attention_norm, "norm2.": block.norm,
        "linear1.": block.mlp[0], "linear2.": block.mlp[2],
    }  # fmt: skip
    state = {
        f"{name}{k}": v for name, module in ours.items() for k, v in module.state_dict().items()
    }
    layer.load_state_dict(state)
    x = torch.randn(3, 5, 128)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    torch.testing.assert_close(block(x), layer(x, src_mask=mask, is_causal=True))
