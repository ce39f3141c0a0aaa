"""Planted runs of ranks and of compiled steps; closed forms against shards cut one by one."""

import torch
from torch import nn

from experiments.compiled_memory.one_gpu import TransformerBlock


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
