"""One row for each layer of a network: what a profile and a prediction say of it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The memory of one module, without that of the modules inside it.

    Attributes:
        name: dotted name; empty for the network itself.
        kind: name of the module's class.
        parameter_bytes: its own parameters and buffers.
        output_bytes: what its forward pass returned.
        saved_bytes: what autograd keeps for its backward pass, each storage counted once.
        peak_bytes: bytes alive at the peak that the module's forward or backward allocated.
    """

    name: str
    kind: str
    parameter_bytes: int
    output_bytes: int
    saved_bytes: int
    peak_bytes: int
