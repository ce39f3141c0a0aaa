"""The names that a step of a network may be described with; imports nothing."""

OPTIMIZERS = ("none", "sgd", "momentum", "adam", "adamw")
LOSSES = ("cross-entropy", "mean-square", "sum", "model")
MODES = ("train", "inference")
COMPILE_MODES = (
    "default",
    "reduce-overhead",
    "max-autotune",
    "max-autotune-no-cudagraphs",
    "aot_eager",
    "eager",
)
"""Modes of ``torch.compile``; the last two are backends that generate no code."""
LEARNING_RATE = 0.01
"""Rate of an optimizer that is named, if it has no value of its own."""
MOST_STEPS = 8
"""Steps on a GPU after which the next step is measured, even if reserved memory still rises."""
