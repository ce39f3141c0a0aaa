"""Claims of the literature on the memory of training: a file a claim, and what they share.

``harness reproduce --literature`` runs them all; no other command does unless one is named.

claims.toml            Each claim's quote, sentence, rule, closed form and limits
claim_texts.py         Reads it
judgements.py          Judges a claim on traced steps; with steps missing it stays open
mlp_peaks.py           Closed forms of an MLP's backward pass
pictures.py            Lines and bars of a claim
steps/                 The networks, the optimizers and the functions that count
"""
