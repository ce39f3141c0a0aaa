"""Public models and their training step, run on a GPU, dry or simulated: one name each.

A name is ``model batch`` or ``model batch float16``, the latter under autocast. The models of
torchvision, Transformers and Diffusers are made without weights.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

STEPS = 3
BATCHES = (2, 5)

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
    """Return every name, one batch after another so that an early end leaves whole groups."""
    models = [*IMAGE_MODELS, *TEXT_MODELS, *DENSE_MODELS, *VIDEO_MODELS, DIFFUSION_MODEL]
    kinds = ("", " float16")
    return [f"{model} {batch}{kind}" for batch in BATCHES for kind in kinds for model in models]


def training(name: str) -> Callable[[], None]:
    """Return a function that trains the model for a few steps on the GPU."""
    model_name, batch, *kind = name.split()

    def run() -> None:
        model, x, loss = _made(model_name, int(batch))
        model = model.to("cuda")
        optimizer = _optimizer(model_name, model.parameters())
        for _ in range(STEPS):
            optimizer.zero_grad()
            with torch.autocast("cuda", torch.float16, enabled=bool(kind)):
                found = loss(model(**x) if isinstance(x, dict) else model(x))
            found.backward()
            del found
            optimizer.step()

    return run


def _optimizer(name: str, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    if name in TEXT_MODELS or name.startswith(("vit", "swin", "convnext", "maxvit")):
        return torch.optim.AdamW(parameters)
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def _made(name: str, batch: int) -> tuple[Any, Any, Callable[[Any], Any]]:
    if name in TEXT_MODELS:
        return _text(name, batch)
    if name == DIFFUSION_MODEL:
        return _diffusion(batch)
    import torchvision.models as catalogue

    labels = torch.zeros(batch, dtype=torch.int64, device="cuda")

    def loss(output: Any) -> Tensor:
        output = getattr(output, "logits", output)
        return functional.cross_entropy(output, labels)

    if name in DENSE_MODELS:
        model = getattr(catalogue.segmentation, name)(
            weights=None, weights_backbone=None, num_classes=21
        )
        return model, torch.zeros(batch, 3, 128, 128, device="cuda"), lambda y: y["out"].mean()
    if name in VIDEO_MODELS:
        model = getattr(catalogue.video, name)(num_classes=100)
        return model, torch.zeros(batch, 3, 8, 64, 64, device="cuda"), loss
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    size = 299 if name == "inception_v3" else 224
    model = getattr(catalogue, name)(num_classes=100, **options)
    return model, torch.zeros(batch, 3, size, size, device="cuda"), loss


def _text(name: str, batch: int) -> tuple[Any, Any, Callable[[Any], Any]]:
    import transformers

    tokens = torch.zeros(batch, TEXT_LENGTH, dtype=torch.int64, device="cuda")
    suffixes = ("ForMaskedLM", "LMHeadModel", "ForCausalLM", "ForConditionalGeneration")
    kind = next(s for s in suffixes if hasattr(transformers, name + s))
    config = getattr(transformers, f"{name}Config")()
    for key in ("hidden_size", "n_embd", "d_model", "dim"):
        if key in config.to_dict() and name not in ("GPT2", "Bert"):
            setattr(config, key, 256)
    for key in ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"):
        if key in config.to_dict() and name not in ("GPT2", "Bert"):
            setattr(config, key, 2)
    config = _consistent(name, config)
    model = getattr(transformers, name + kind)(config)
    return model.train(), {"input_ids": tokens, "labels": tokens}, lambda output: output.loss


def _diffusion(batch: int) -> tuple[Any, Any, Callable[[Any], Any]]:
    import diffusers

    model = diffusers.UNet2DModel(
        in_channels=3,
        out_channels=3,
        block_out_channels=(64, 128, 256),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )
    noisy = {"sample": torch.zeros(batch, 3, 64, 64, device="cuda"), "timestep": 7}
    return model, noisy, lambda output: output.sample.square().mean()


def _consistent(name: str, config: Any) -> Any:
    """Make heads and inner sizes fit the smaller width."""
    if name in ("GPT2", "Bert"):
        return config
    for key in ("num_attention_heads", "num_key_value_heads", "n_head", "num_heads", "n_heads"):
        if key in config.to_dict():
            setattr(config, key, 4)
    if "head_dim" in config.to_dict():
        config.head_dim = 64
    if name == "T5":
        config.decoder_start_token_id = 0
    if name == "GPTNeo":
        config.attention_types = [[["global", "local"], 1]]
        config.attention_layers = ["global", "local"]
        config.num_layers = 2
    return config
