"""Memory budgets in tests, by a pytest plugin with a baseline file."""
