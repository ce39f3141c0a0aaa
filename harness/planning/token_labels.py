"""Uses the input tokens of a language model also as its labels, as in pretraining."""

from msgspec.structs import replace

from harness.schema.errors import StepError
from harness.schema.input_spec import InputSpec, parse_input
from harness.schema.step_request import StepRequest

_TOKENS = "input_ids"
_MISSING = "give the model its labels"
"""Part of the error message for a model that returns logits but no loss."""


def labelled(texts: tuple[str, ...]) -> tuple[str, ...] | None:
    """Add labels in the shape of the tokens to the inputs; return None if this is not possible.

    >>> labelled(("int64:128",))
    ('input_ids=int64:128', 'labels=int64:128')
    """
    specs = [parse_input(text) for text in texts]
    named = {spec.name: spec for spec in specs}
    tokens: InputSpec | None = named.get(_TOKENS) or (named.get(None) if len(specs) == 1 else None)
    if tokens is None or tokens.dtype != "int64" or len(tokens.shape) != 1 or "labels" in named:
        return None
    others = [str(spec) for spec in specs if spec is not tokens]
    size = f"int64:{tokens.shape[0]}"
    return (f"{_TOKENS}={size}", *others, f"labels={size}")


def with_labels(request: StepRequest, refusal: StepError) -> StepRequest | None:
    """Return a request with labels if ``refusal`` says that labels are missing, else None."""
    is_default = request.loss == "cross-entropy" and request.mode == "train"
    if _MISSING not in str(refusal) or not is_default or not request.inputs:
        return None
    inputs = labelled(request.inputs)
    if inputs is None:
        return None
    note = f"the model gets its tokens as labels, too: --input {' --input '.join(inputs)}"
    notes = (*request.notes, f"{note} --loss model")
    return replace(request, inputs=inputs, loss="model", notes=notes)
