"""A function is called once after an import, also if somebody looks for the module before."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from harness.prediction.after_import import after_import


def test_looking_for_a_module_does_not_take_the_place_of_its_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "looked_for.py").write_text("value = 7")
    monkeypatch.syspath_prepend(tmp_path)
    seen: list[ModuleType] = []
    after_import("looked_for", seen.append)
    finders = list(sys.meta_path)
    for _ in range(2):  # as datasets and transformers do, to see if PyTorch is installed
        assert importlib.util.find_spec("looked_for") is not None
    assert not seen
    assert sys.meta_path == finders
    module = importlib.import_module("looked_for")
    assert seen == [module]
    assert module.value == 7
    importlib.reload(module)
    assert len(seen) == 1
    assert len(sys.meta_path) == len(finders) - 1
    monkeypatch.delitem(sys.modules, "looked_for")
