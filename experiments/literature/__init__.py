"""Claims of the literature on the memory of training, one file per claim, and shared code.

``harness reproduce --literature`` runs all claims; other commands run only a named claim.

claims.toml            Each claim's quote, sentence, rule, closed form, limits and figure
claim_texts.py         Reads it
judgements.py          Judges a claim on traced steps; with steps missing it stays open
mlp_peaks.py           Closed forms of an MLP's backward pass
pictures.py            The figure of a claim, from claims.toml
steps/                 The networks, the optimizers and the functions that count
"""
