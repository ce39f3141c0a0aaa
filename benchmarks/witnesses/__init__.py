"""Measurements of real GPUs that others published, and predictors next to them.

    python -m benchmarks.witnesses run gpumemnet-mlps --fetch --rows 100

A source (``sources/``) says where numbers come from and how the published program ran; a predictor
(``predictors/``) is one file with one function, ``predict(row) -> bytes``, which raises
``RefusedError`` if it has no answer. Nothing of others is in this folder but their numbers.
"""
