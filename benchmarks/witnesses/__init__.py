"""Compares predictors with published measurements of real GPUs.

    python -m benchmarks.witnesses run gpumemnet-mlps --fetch --rows 100

A source (``sources/``) describes the origin of numbers and the published program. A predictor
(``predictors/``) is a file with a function ``predict(row) -> bytes``, which raises ``RefusedError``
if it has no answer. This folder contains only numbers of other authors, and no code of theirs.
"""
