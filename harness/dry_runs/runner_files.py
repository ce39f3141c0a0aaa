"""Notes the files that a test runner writes for its user: pytest's cache, JUnit files, coverage."""

import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

from harness.prediction.after_import import after_import, instead

_COVERAGE = ("data_file", "html_dir", "xml_output", "json_output", "lcov_output")
"""Settings of coverage.py that hold the paths of its files."""


class RunnerFiles:
    """The paths of the runner's files and folders."""

    def __init__(self) -> None:
        self.paths: dict[str, None] = {}

    def watch(self) -> None:
        """Note the paths as soon as pytest or coverage.py has read its settings."""
        after_import("_pytest.cacheprovider", self._watch_pytest)
        after_import("_pytest.junitxml", self._watch_pytest)
        after_import("coverage.control", self._watch_coverage)

    def _add(self, path: object) -> None:
        if isinstance(path, str | os.PathLike) and os.fspath(path):
            self.paths[os.path.abspath(os.fspath(path))] = None  # noqa: PTH100

    def _watch_pytest(self, plugin: ModuleType) -> None:
        @instead(plugin, "pytest_configure")
        def configure(real: Callable[[Any], None], config: Any) -> None:
            real(config)
            self._add(getattr(getattr(config, "cache", None), "_cachedir", None))
            self._add(getattr(config.option, "xmlpath", None))

    def _watch_coverage(self, control: ModuleType) -> None:
        @instead(control.Coverage, "__init__")
        def begin(real: Callable[..., None], coverage: Any, *given: Any, **named: Any) -> None:
            real(coverage, *given, **named)
            for name in _COVERAGE:
                self._add(getattr(coverage.config, name, None))
