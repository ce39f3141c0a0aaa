"""Why the curves follow the law or leave it, and how noisy the times are."""

from harness.schema.units import format_bytes

from .curve import Curve


def fit_text(result: list[Curve]) -> list[str]:
    """State the law and its fitted coefficients, next to the bytes they should be."""
    law = (
        "The law says memory = a·k + b·depth/k + c for k segments, least at k = √(b·depth/a), "
        "which is √depth where a = b. Where k does not divide the depth, the longest segment "
        "counts; the fit uses that. What is fitted is what a step adds to what is alive before it."
    )
    each = [
        f"{curve.name}: a = {format_bytes(round(curve.a))} a segment and b = "
        f"{format_bytes(round(curve.b))} a layer, where one activation has "
        f"{format_bytes(curve.activation_bytes)} and one layer's gradients "
        f"{format_bytes(curve.gradient_bytes)}."
        for curve in result
    ]
    return [law, *each]


def gradient_text(result: list[Curve]) -> list[str]:
    """Say why the best number of segments lies beyond √depth where gradients count."""
    if all(curve.regime == "activations" for curve in result):
        return []
    text = (
        "Where gradients are not small the peak of a step with several segments comes late: when "
        "the first segment runs again, every other layer's gradient is there. By then the inputs "
        "of the later segments, which the law counts, are gone. So more segments cost nothing "
        "until their inputs outweigh the gradients, and the best number lies beyond √depth."
    )
    return [text]


def time_text(result: list[Curve]) -> str:
    """Say how much the times of equal steps differ."""
    spreads = [curve.base_spread for curve in result]
    return (
        "How noisy the times are: among the three processes that ran the same step without "
        f"checkpoints, the slowest median is {min(spreads):.3g} to {max(spreads):.3g} times the "
        "fastest. Their bytes are equal in "
        f"{sum(curve.base_equal for curve in result)} of {len(result)} curves."
    )
