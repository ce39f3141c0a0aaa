"""Memory budgets in tests: a pytest plugin, its baseline file, and predictions compared."""
