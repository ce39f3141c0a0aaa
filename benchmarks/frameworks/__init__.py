"""Scripts that train with other frameworks, each answered on a pretended GPU."""
