"""Code that the steps of the claims name: networks, optimizers, functions that count.

A worker imports these files, with torch; a claim names them with a leading dot.
"""
