"""Networks, optimizers and counting functions that the steps of the claims name.

A worker imports these files, with torch; a claim names them with a leading dot.
"""
