"""Hints for options that people expect and that do not exist."""

_HINTS = {
    "--layers": "use --depth N for the number of hidden layers",
    "--num-layers": "use --depth N for the number of hidden layers",
    "--n-layers": "use --depth N for the number of hidden layers",
    "--hidden-size": "use --width N, or --hidden N,N,...",
    "--units": "use --width N, or --hidden N,N,...",
    "--lr": "memory does not depend on the learning rate; leave it out",
    "--learning-rate": "memory does not depend on the learning rate; leave it out",
    "--momentum": "use --optimizer momentum",
    "--weight-decay": "memory does not depend on weight decay; leave it out",
    "--epochs": "every step needs the same memory; leave it out",
    "--steps": "every step needs the same memory; leave it out",
    "--amp": "use --autocast float16 or --autocast bfloat16",
    "--precision": "use --dtype for the model, or --autocast",
    "--fp16": "use --dtype float16, or --autocast float16",
    "--bf16": "use --dtype bfloat16, or --autocast bfloat16",
    "--input-size": "use --in-features N",
    "--num-classes": "use --classes N",
    "--output": "use --out DIR",
    "--cuda": "use --device cuda",
    "--timeout": "use --deadline SECONDS",
}


def hint_for(option: str) -> str | None:
    """Return what to do instead of ``option``; None if nothing is known."""
    return _HINTS.get(option)
