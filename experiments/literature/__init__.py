"""Tests claims of the literature on the memory of training; each claim has its own file.

``harness reproduce --literature`` runs all claims; other commands run a claim only if you name it.

claims.toml            Each claim's quote, sentence, rule, closed form, limits and figure
claim_texts.py         Reads claims.toml
judgements.py          Judges a claim from traced steps; if steps are missing, the claim is open
mlp_peaks.py           Closed forms of the peak of an MLP's backward pass
pictures.py            Draws the figure of a claim with the options of claims.toml
steps/                 Networks, optimizers and counting functions of the steps
"""
