"""Figures: each function paints a data frame on an empty canvas, wide or narrow."""
