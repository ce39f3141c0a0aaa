"""fitcheck-llm 0.3.1: it takes the name of a language model on the Hugging Face hub."""

from benchmarks.witnesses.rows import RefusedError, Row


def predict(_row: Row) -> int:
    """Refuse: no published row here is the training of a model that it knows."""
    raise RefusedError("takes a causal language model of the Hugging Face hub")
