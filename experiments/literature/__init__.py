"""Claims of the literature on the memory of training: a file a claim, and what they share.

``harness reproduce --literature`` runs them all; no other command does unless one is named.

judgements.py          Judges a claim on traced steps; with steps missing it stays open
mlp_peaks.py           Closed forms of an MLP's backward pass
steps/                 The networks, the optimizers and the functions that count
"""
