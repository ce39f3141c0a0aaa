"""Memory budgets in tests: a pytest plugin, its baseline file, and predictions compared.

compare_predictions.py  Two predictions (harness predict --json) compared, value by value
pytest_plugin.py        The pytest plugin: @pytest.mark.memory(peak="900MiB"
step_memory.py          The memory of a step of a test's model, and the file of the baseline
"""
