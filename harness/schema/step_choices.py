"""Names of optimizers, losses, modes and compile modes; this module imports nothing."""

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
"""Learning rate of the optimizers ``sgd`` and ``momentum``."""
MOST_STEPS = 8
"""Maximum number of steps before the measured step on a GPU, if reserved memory keeps rising."""
