"""Tables, figures, HTML and Markdown from what an analysis found."""
