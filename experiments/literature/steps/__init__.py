"""Networks, optimizers and counting functions for the claims of the literature.

Only worker processes import these files, which need torch. A job refers to a function by a name
with a leading dot, e.g. ``.networks:chain``.
"""
