"""Claims of the literature on the memory of training: a file a claim, and what they share.

``harness reproduce --literature`` runs them all; no other command does unless one is named.

networks.py   The networks: transformer blocks and others, from plain modules
"""
