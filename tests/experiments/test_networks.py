"""Networks and optimizers of experiments compute what they stand for, not only its bytes."""

import torch
from torch import nn

from experiments.compiled_memory.one_gpu import TransformerBlock
from experiments.literature.steps.layer_stacks import mlp
from experiments.literature.steps.reversible import ReversibleStack
from experiments.literature.steps.small_states import Adam8bit, adam_in_backward, adam_loop


def gradients(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Return the gradients of a sum of squares."""
    model(x).square().sum().backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


def test_rebuilt_blocks_have_the_gradients_of_kept_ones() -> None:
    torch.manual_seed(0)
    kept, rebuilt = (ReversibleStack(4, 8, rebuild, stages=2).double() for rebuild in (False, True))
    rebuilt.load_state_dict(kept.state_dict())
    x = torch.randn(5, 16, dtype=torch.float64)

    torch.testing.assert_close(gradients(rebuilt, x), gradients(kept, x))


def test_eight_bits_train_and_a_step_in_the_backward_pass_is_the_same_step() -> None:
    ends = {}
    for make in (adam_loop, adam_in_backward, Adam8bit):
        torch.manual_seed(0)
        model, x = mlp(2, 32, features=16), torch.randn(64, 16)
        labels = torch.arange(64) % 10
        optimizer = make(model.parameters())
        losses = []
        for _ in range(30):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
        ends[make] = losses

    assert ends[adam_in_backward] == ends[adam_loop]
    fallen = ends[adam_loop][0] - ends[adam_loop][-1]
    assert ends[Adam8bit][0] - ends[Adam8bit][-1] > 0.8 * fallen > 0


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
