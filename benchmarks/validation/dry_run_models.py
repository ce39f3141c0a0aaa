"""Two training steps of public models under the dry run: a table of their peaks.

    python -m benchmarks.validation.dry_run_models --out results/cuda-dry-run [NAME ...]

Needs torchvision, transformers and diffusers next to a CUDA build of PyTorch. Every model is built
from a configuration, without weights, and trained by AdamW on one batch, in float32 and under
autocast to float16, each in a process of its own. A model that cannot be run has the one line why.
"""

import itertools
import sys
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.validation.dry_run import Later, at_once, parser, write_table
from harness.dry_run import DryRunReport, dry_run
from harness.schema.units import format_bytes

torch: Any = Later("torch")
torchvision: Any = Later("torchvision")
transformers: Any = Later("transformers")
diffusers: Any = Later("diffusers")
GPU = "a100-40gb"
STEPS = 2

Loss = Callable[[], Any]
Built = tuple[Any, Loss]
Model = Callable[[], Built]


def images(rows: int, size: int = 224) -> Any:
    """Return a batch of empty images on the GPU."""
    return torch.zeros(rows, 3, size, size, device="cuda")


def classifier(name: str, rows: int = 32, size: int = 224) -> Model:
    """Return a classifier of torchvision with its cross-entropy, auxiliary outputs included."""

    def build() -> Built:
        model = torchvision.models.get_model(name, weights=None).cuda()
        target = torch.zeros(rows, dtype=torch.int64, device="cuda")

        def loss() -> Any:
            out = model(images(rows, size))
            outputs = out if isinstance(out, tuple) else (out,)
            return sum(torch.nn.functional.cross_entropy(each, target) for each in outputs)

        return model, loss

    return build


def detector(name: str, rows: int = 2, size: int = 320) -> Model:
    """Return a detector of torchvision with the sum of its losses: one box an image."""

    def build() -> Built:
        model = torchvision.models.get_model(name, weights=None, weights_backbone=None).cuda()
        target = {
            "boxes": torch.tensor([[10.0, 10.0, 100.0, 100.0]], device="cuda"),
            "labels": torch.ones(1, dtype=torch.int64, device="cuda"),
            "masks": torch.zeros(1, size, size, dtype=torch.uint8, device="cuda"),
        }
        return model, lambda: sum(model(list(images(rows, size)), [target] * rows).values())

    return build


def segmenter(name: str, rows: int = 4, size: int = 256) -> Model:
    """Return a segmentation network of torchvision with the cross-entropy of every pixel."""

    def build() -> Built:
        model = torchvision.models.get_model(name, weights=None, weights_backbone=None).cuda()
        target = torch.zeros(rows, size, size, dtype=torch.int64, device="cuda")
        return model, lambda: torch.nn.functional.cross_entropy(
            model(images(rows, size))["out"], target
        )

    return build


def video(name: str) -> Model:
    """Return a video classifier of torchvision on 2 clips of 16 frames."""

    def build() -> Built:
        model = torchvision.models.get_model(name, weights=None).cuda()
        clips = torch.zeros(2, 3, 16, 112, 112, device="cuda")
        return model, lambda: model(clips).square().mean()

    return build


def language(config: str, model: str, tokens: tuple[int, int] = (4, 256), **options: Any) -> Model:
    """Return a model of transformers that computes its own loss from labels."""

    def build() -> Built:
        made = getattr(transformers, config)(**options)
        network = getattr(transformers, model)(made).cuda().train()
        ids = torch.zeros(tokens, dtype=torch.int64, device="cuda")
        return network, lambda: network(input_ids=ids, labels=ids).loss

    return build


SMALL: Mapping[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 1376,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 32_000,
}


def vision_transformer() -> Built:
    """Return ViT-B/16 of transformers."""
    model = transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=1000)).cuda()
    target = torch.zeros(32, dtype=torch.int64, device="cuda")
    return model, lambda: model(pixel_values=images(32), labels=target).loss


def whisper() -> Built:
    """Return Whisper (tiny) on 4 clips of 30 seconds."""
    config = transformers.WhisperConfig(
        d_model=384, encoder_layers=4, decoder_layers=4, encoder_attention_heads=6,
        decoder_attention_heads=6, encoder_ffn_dim=1536, decoder_ffn_dim=1536,
    )  # fmt: skip
    model = transformers.WhisperForConditionalGeneration(config).cuda().train()
    features = torch.zeros(4, 80, 3000, device="cuda")
    labels = torch.zeros(4, 64, dtype=torch.int64, device="cuda")
    return model, lambda: model(input_features=features, labels=labels).loss


def recurrent(kind: str) -> Model:
    """Return a language model of two recurrent layers (cuDNN's) on 32 sequences of 128 tokens."""

    def build() -> Built:

        parts = (
            torch.nn.Embedding(10_000, 512),
            getattr(torch.nn, kind)(512, 512, 2, dropout=0.2, batch_first=True),
            torch.nn.Linear(512, 10_000),
        )
        model = torch.nn.ModuleList(parts).cuda()
        embedding, layers, head = model
        tokens = torch.zeros(32, 128, dtype=torch.int64, device="cuda")
        return model, lambda: torch.nn.functional.cross_entropy(
            head(layers(embedding(tokens))[0]).flatten(0, 1), tokens.flatten()
        )

    return build


def diffusion() -> Built:
    """Return the UNet of a diffusion model on 8 latents of 64 x 64."""
    model = diffusers.UNet2DModel(
        sample_size=64, in_channels=4, out_channels=4, block_out_channels=(128, 256, 256, 512)
    ).cuda()
    noisy = torch.zeros(8, 4, 64, 64, device="cuda")
    step = torch.zeros(8, dtype=torch.int64, device="cuda")
    return model, lambda: torch.nn.functional.mse_loss(model(noisy, step).sample, noisy)


CLASSIFIERS = (
    "alexnet", "vgg11", "resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "densenet121",
    "mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0", "efficientnet_v2_s", "convnext_tiny",
    "regnet_y_400mf", "shufflenet_v2_x1_0", "squeezenet1_0", "googlenet", "mnasnet1_0", "vit_b_16",
    "swin_t", "maxvit_t",
)  # fmt: skip
DETECTORS = (
    "fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "retinanet_resnet50_fpn", "ssd300_vgg16",
    "fcos_resnet50_fpn",
)  # fmt: skip

MODELS: Mapping[str, Model] = {
    **{name: classifier(name) for name in CLASSIFIERS},
    "inception_v3": classifier("inception_v3", size=299),
    **{name: detector(name) for name in DETECTORS},
    **{
        n: segmenter(n) for n in ("deeplabv3_resnet50", "fcn_resnet50", "lraspp_mobilenet_v3_large")
    },
    "r3d_18": video("r3d_18"),
    "GPT-2": language("GPT2Config", "GPT2LMHeadModel"),
    "BERT": language("BertConfig", "BertForMaskedLM"),
    "RoBERTa": language("RobertaConfig", "RobertaForMaskedLM"),
    "DistilBERT": language("DistilBertConfig", "DistilBertForMaskedLM"),
    "Llama (512 x 6)": language("LlamaConfig", "LlamaForCausalLM", **SMALL),
    "Mistral (512 x 6)": language("MistralConfig", "MistralForCausalLM", **SMALL),
    "Mixtral (512 x 6)": language(
        "MixtralConfig", "MixtralForCausalLM", **SMALL, num_local_experts=4
    ),
    "T5-small": language("T5Config", "T5ForConditionalGeneration", decoder_start_token_id=0),
    "ViT-B/16": vision_transformer,
    "Whisper (tiny)": whisper,
    "LSTM": recurrent("LSTM"),
    "GRU": recurrent("GRU"),
    "diffusion UNet": diffusion,
}


def train(name: str, *, autocast: bool) -> int:
    """Run the steps of a model on the pretended GPU; return the bytes of its parameters."""
    model, loss = MODELS[name]()
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(STEPS):
        with torch.autocast("cuda", torch.float16, enabled=autocast):
            value = loss()
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
    return sum(p.numel() * p.element_size() for p in model.parameters())


HEADS = (
    "model", "precision", "outcome", "parameters", "requested", "allocated", "reserved",
    "allocated bytes", "reserved bytes", "reads", "largest at the peak",
)  # fmt: skip


def row(name: str, precision: str, report: DryRunReport) -> list[str]:
    """Return a row of the table."""
    reads = f"{sum(read.count for read in report.value_reads):,}"
    if report.outcome != "ok":
        why = (report.evidence or "").splitlines()[0][:200]
        return [name, precision, f"{report.outcome}: {why}", *[""] * 6, reads, ""]
    cuda, peak = report.cuda, report.devices[0].peak
    assert peak is not None
    sizes = (cuda.requested_peak_bytes, cuda.allocated_peak_bytes, cuda.reserved_peak_bytes)
    category, most = next(iter(peak.categories.items()))
    return [
        name,
        precision,
        "ok",
        format_bytes(int(str(report.returned))),
        *(format_bytes(size or 0) for size in sizes),
        *(str(size) for size in sizes[1:]),
        reads,
        f"{category} {100 * most / peak.requested_bytes:.0f}%",
    ]


def run(case: tuple[str, str]) -> DryRunReport:
    """Run the steps of a model in a precision, in a process of its own."""
    name, precision = case
    report = dry_run(
        train,
        name,
        autocast=precision == "autocast",
        gpu=GPU,
        deadline_seconds=600.0,
        quiet=True,
    )
    print(" | ".join(row(name, precision, report)), file=sys.stderr, flush=True)
    return report


def main() -> int:
    """Run the models of the command line, or all; write the table."""
    options = parser(__doc__)
    options.add_argument("names", nargs="*", choices=[*MODELS, []])
    arguments = options.parse_args()
    names = (arguments.names or [*MODELS])[:: arguments.every]
    runs = list(itertools.product(names, ("float32", "autocast")))
    reports = list(at_once(run, runs))
    environment = next((report.environment for report in reports if report.environment), {})
    rows = [
        row(name, precision, report)
        for (name, precision), report in zip(runs, reports, strict=True)
    ]
    good = sum(each[2] == "ok" for each in rows)
    write_table(
        arguments.out / "dry-run-models",
        "Public models under the dry run",
        f"{good} of {len(rows)} runs of {len(rows) // 2} models ended well: {STEPS} steps of AdamW"
        f" on a pretended {GPU}, torch {environment.get('torch')}, CUDA {environment.get('cuda')}."
        " cuDNN's workspaces are none. Values read from the GPU were zero.",
        HEADS,
        rows,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
