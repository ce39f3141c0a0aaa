"""Tests claims of the literature on the memory of training; each claim has its own file.

``harness reproduce --literature`` runs all claims; other commands run only named claims.

``claims.toml`` contains each claim's quote, sentence, rule, closed form, limits and figure.
``claim_texts.py`` reads ``claims.toml``. ``judgements.py`` judges a claim from traced steps.
``mlp_peaks.py`` computes the peak of an MLP's backward pass by closed forms. ``pictures.py`` draws
the figure of a claim. ``steps/`` contains the networks, optimizers and counting functions.
"""
