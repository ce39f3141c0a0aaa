"""fitcheck-llm 0.3.1, which takes the name of a language model on the Hugging Face hub."""

from benchmarks.witnesses.rows import RefusedError, Row


def predict(_row: Row) -> int:
    """Refuse every row, because the published rows here do not train a model that it knows."""
    raise RefusedError("takes a causal language model of the Hugging Face hub")
