"""Why the curves follow the law or leave it, and how noisy the times are."""

from harness.schema.units import format_bytes

from .curve import Curve


def fit_text(result: list[Curve]) -> list[str]:
    """State the law and its fitted coefficients, next to the bytes they should be."""
    law = (
        "The law says that k segments need a·k + b·depth/k + c bytes. This is least at "
        "k = √(b·depth/a), which is √depth if a = b. If k does not divide the depth, the law is "
        "fitted to the longest segment. The fitted bytes are those that a step adds to the bytes "
        "alive before it."
    )
    each = [
        f"For {curve.name}, a is {format_bytes(round(curve.a))} for each segment and b is "
        f"{format_bytes(round(curve.b))} for each layer. One activation takes "
        f"{format_bytes(curve.activation_bytes)}, and the gradients of one layer take "
        f"{format_bytes(curve.gradient_bytes)}."
        for curve in result
    ]
    return [law, *each]


def gradient_text(result: list[Curve]) -> list[str]:
    """Say why the best number of segments lies beyond √depth where gradients count."""
    if all(curve.regime == "activations" for curve in result):
        return []
    text = (
        "If gradients are large, a step with several segments has its peak late, when the first "
        "segment runs again and the gradients of all other layers exist. The law also counts the "
        "inputs of the later segments, but these are freed by then. More segments therefore cost "
        "nothing until their inputs outweigh the gradients, so the best number lies above √depth."
    )
    return [text]


def time_text(result: list[Curve]) -> str:
    """Say how much the times of equal steps differ, of networks that were timed."""
    if not result:
        return "No step was timed, so the cost in time is not known here."
    spreads = [curve.base_spread for curve in result]
    return (
        "The times are noisy. Three processes ran each step without checkpoints, and the "
        f"slowest median is {min(spreads):.3g} to {max(spreads):.3g} times the fastest. Their "
        "bytes are equal in "
        f"{sum(curve.base_equal for curve in result)} of {len(result)} curves."
    )
