"""A pytest plugin that checks memory budgets of tests against a baseline file."""
