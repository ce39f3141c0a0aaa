"""Named training steps of public models, for the dry run and for the estimate.

A name is ``model batch``, or ``model batch float16`` under autocast. The models of torchvision,
Transformers and Diffusers are made without weights.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.training.own_step import OwnStep

BATCHES = (2, 64)

IMAGE_MODELS = (
    "alexnet", "convnext_tiny", "convnext_small", "densenet121", "densenet169",
    "efficientnet_b0", "efficientnet_b2", "efficientnet_v2_s", "googlenet", "inception_v3",
    "maxvit_t", "mnasnet0_5", "mnasnet1_0", "mobilenet_v2", "mobilenet_v3_small",
    "mobilenet_v3_large", "regnet_x_400mf", "regnet_y_400mf", "regnet_y_1_6gf", "resnet18",
    "resnet34", "resnet50", "resnet101", "resnext50_32x4d", "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0", "squeezenet1_0", "squeezenet1_1", "swin_t", "swin_s", "swin_v2_t",
    "vgg11", "vgg11_bn", "vgg13_bn", "vit_b_16", "vit_b_32", "wide_resnet50_2",
)  # fmt: skip
DENSE_MODELS = (
    "fcn_resnet50", "deeplabv3_resnet50", "deeplabv3_mobilenet_v3_large",
    "lraspp_mobilenet_v3_large",
)  # fmt: skip
VIDEO_MODELS = ("r3d_18", "mc3_18", "r2plus1d_18")
DIFFUSION_MODEL = "UNet2DModel"
TEXT_MODELS = (
    "GPT2", "Bert", "DistilBert", "Roberta", "Albert", "Electra", "GPTNeo", "OPT", "Llama",
    "GPTNeoX", "Mistral", "Qwen2", "Gemma", "T5", "Bart", "Bloom", "Phi",
)  # fmt: skip
TEXT_LENGTH = 128


def names() -> list[str]:
    """Return every name in the order of batches, so that an early end leaves whole groups."""
    models = [*IMAGE_MODELS, *TEXT_MODELS, *DENSE_MODELS, *VIDEO_MODELS, DIFFUSION_MODEL]
    kinds = ("", " float16")
    return [f"{model} {batch}{kind}" for batch in BATCHES for kind in kinds for model in models]


def own_step(name: str) -> OwnStep:
    """Return the training step of a run."""
    model, batch, *kind = name.split()
    return OwnStep(
        build=lambda: _network(model),
        batch=int(batch),
        inputs=lambda examples: _inputs(model, examples),
        loss=lambda output, labels: _loss(model, output, labels),
        optimizer=lambda parameters: _optimizer(model, parameters),
        autocast=kind[0] if kind else None,
    )


def _optimizer(name: str, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    if name in TEXT_MODELS or name.startswith(("vit", "swin", "convnext", "maxvit")):
        return torch.optim.AdamW(parameters)
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def _loss(name: str, output: Any, labels: Any) -> Tensor:
    loss: Tensor
    if name in TEXT_MODELS:
        loss = output.loss
    elif name in DENSE_MODELS:
        loss = output["out"].mean()
    elif name == DIFFUSION_MODEL:
        loss = output.sample.square().mean()
    else:
        loss = functional.cross_entropy(getattr(output, "logits", output), labels)
    return loss


def _inputs(name: str, batch: int) -> tuple[Any, Tensor | None]:
    if name in TEXT_MODELS:
        tokens = torch.zeros(batch, TEXT_LENGTH, dtype=torch.int64, device="cuda")
        return {"input_ids": tokens, "labels": tokens}, None
    if name == DIFFUSION_MODEL:
        return {"sample": torch.zeros(batch, 3, 64, 64, device="cuda"), "timestep": 7}, None
    if name in DENSE_MODELS:
        return torch.zeros(batch, 3, 128, 128, device="cuda"), None
    size = 299 if name == "inception_v3" else 224
    shape = (3, 8, 64, 64) if name in VIDEO_MODELS else (3, size, size)
    labels = torch.zeros(batch, dtype=torch.int64, device="cuda")
    return torch.zeros(batch, *shape, device="cuda"), labels


def _network(name: str) -> nn.Module:
    if name in TEXT_MODELS:
        return _text(name)
    if name == DIFFUSION_MODEL:
        return _diffusion()
    import torchvision.models as catalogue

    if name in DENSE_MODELS:
        place = catalogue.segmentation
        options: dict[str, Any] = {"weights": None, "weights_backbone": None, "num_classes": 21}
    else:
        place = catalogue.video if name in VIDEO_MODELS else catalogue
        options = {"num_classes": 100}
        if name in ("googlenet", "inception_v3"):
            options["init_weights"] = False
    made: nn.Module = getattr(place, name)(**options)
    return made


def _text(name: str) -> nn.Module:
    import transformers

    suffixes = ("ForMaskedLM", "LMHeadModel", "ForCausalLM", "ForConditionalGeneration")
    kind = next(s for s in suffixes if hasattr(transformers, name + s))
    config = getattr(transformers, f"{name}Config")()
    if name not in ("GPT2", "Bert"):
        _make_small(name, config)
    made: nn.Module = getattr(transformers, name + kind)(config)
    return made


SMALL = {
    256: ("hidden_size", "n_embd", "d_model", "dim"),
    2: ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"),
    4: ("num_attention_heads", "num_key_value_heads", "n_head", "num_heads", "n_heads"),
    64: ("head_dim",),
}
"""Values of widths, layers and heads, by their names in different configurations."""


def _make_small(name: str, config: Any) -> None:
    known = config.to_dict()
    for value, keys in SMALL.items():
        for key in keys:
            if key in known:
                setattr(config, key, value)
    if name == "T5":
        config.decoder_start_token_id = 0
    if name == "GPTNeo":
        config.attention_types = [[["global", "local"], 1]]
        config.attention_layers = ["global", "local"]
        config.num_layers = 2


def _diffusion() -> nn.Module:
    import diffusers

    return diffusers.UNet2DModel(  # type: ignore[no-any-return]
        in_channels=3,
        out_channels=3,
        block_out_channels=(64, 128, 256),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )
