"""Names of the choices that describe a step of a network; imports nothing."""

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
"""Learning rate of a named optimizer without its own default."""
MOST_STEPS = 8
"""Most steps on a GPU before the measured step, even if reserved memory still rises."""
