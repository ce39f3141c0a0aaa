"""Writes the findings of an analysis as tables, figures, HTML and Markdown."""
