"""Tiny workloads that together exercise every rule of the memory model on the CPU."""

from harness.schema.workload import ACTIVATIONS, Workload

_PLAIN = Workload(hidden=(12, 7), in_features=20, classes=5, batch=9, optimizer="none")
_BY_HAND = _PLAIN.replace(model="mlp-scratch")
_DEEP = _PLAIN.replace(hidden=(12, 7, 6))
_WIDE = _PLAIN.replace(hidden=(64, 48), in_features=96, batch=64, dtype="bfloat16")

PROBES: tuple[Workload, ...] = (
    *(_PLAIN.replace(activation=name) for name in ACTIVATIONS),
    *(_BY_HAND.replace(activation=name) for name in ACTIVATIONS),
    _PLAIN.replace(mode="inference"),
    _BY_HAND.replace(mode="inference"),
    *(
        _PLAIN.replace(optimizer=optimizer, foreach=foreach)
        for optimizer in ("sgd", "momentum", "adam", "adamw")
        for foreach in ("on", "off")
    ),
    _BY_HAND.replace(optimizer="adamw", dtype="float64"),
    _PLAIN.replace(batch=1, hidden=(1, 1), classes=1, in_features=1),
    _PLAIN.replace(accumulate=4),
    _BY_HAND.replace(accumulate=9),
    _PLAIN.replace(checkpoint=1),
    _PLAIN.replace(checkpoint=2, activation="gelu", accumulate=2),
    _BY_HAND.replace(checkpoint=2),
    _BY_HAND.replace(checkpoint=1, activation="tanh"),
    *(
        _DEEP.replace(norm=norm, dropout=dropout, activation=activation)
        for norm, dropout in (("batch", 0.0), ("layer", 0.0), ("none", 0.3))
        for activation in ("relu", "relu_inplace", "gelu")
    ),
    *(
        _DEEP.replace(norm=norm, dropout=0.3, checkpoint=2, accumulate=2)
        for norm in ("batch", "layer")
    ),
    _DEEP.replace(norm="batch", dropout=0.3, mode="inference"),
    _DEEP.replace(norm="layer", optimizer="momentum", dtype="float64", threads=2),
    *(
        _PLAIN.replace(mode=mode, activation=activation, autocast="bfloat16", batch=70)
        for activation in ("relu", "gelu")
        for mode in ("train", "inference")
    ),
    _PLAIN.replace(optimizer="momentum", dtype="float16"),
    _WIDE,
    _WIDE.replace(model="mlp-scratch", activation="tanh", threads=2),
)
