"""Tables, figures, HTML and Markdown from the findings of an analysis."""
