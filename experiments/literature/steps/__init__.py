"""Networks, optimizers and counting functions for the claims of the literature.

Only worker processes import the files of this folder, because the files need torch. A job refers to
a function by a name with a leading dot, such as ``.networks:chain``.
"""
