"""The names that a step of a network may be described with; imports nothing."""

OPTIMIZERS = ("none", "sgd", "momentum", "adam", "adamw")
LOSSES = ("cross-entropy", "mean-square", "sum", "model")
MODES = ("train", "inference")
LEARNING_RATE = 0.01
