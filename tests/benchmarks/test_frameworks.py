"""Scripts that train with other frameworks: each installed one is answered, to the byte."""

from collections.abc import Mapping
from typing import Any

import pytest

from benchmarks.frameworks import __main__ as frameworks
from benchmarks.frameworks.closed_forms import CLOSED_FORMS, ClosedForm
from benchmarks.frameworks.framework_table import results_page
from harness.prediction.versions import TorchVersion, described_version


def planted(**changes: Any) -> dict[str, Any]:
    reading: dict[str, Any] = {
        "name": "states",
        "bytes": 108,
        "formula": "2 B",
        "formula_bytes": 100,
    }
    reading |= {"added": {"a table": 8}, "expected_bytes": 108}
    unknown: dict[str, Any] = {
        "moves": True,
        "lines": ["a.py:1"],
        "requested_peak_bytes": [0, 1 << 20],
    }
    unknown |= {"reserved_peak_bytes": [1 << 20, 2 << 20]}
    row: dict[str, Any] = {
        "framework": "F",
        "what": "w",
        "command": "f.py x",
        "gpu": "l4",
        "options": "--gpus 2",
    }
    row |= {"versions": {"f": "1.2"}, "torch": "2.15", "outcome": "ok", "evidence": None}
    row |= {"verdict": "fits", "requested_peak_bytes": 1 << 20, "reserved_peak_bytes": 2 << 20}
    return row | {"unknown": unknown, "notes": ["n"], "readings": [reading]} | changes


def test_a_row_says_its_range_the_line_that_decides_and_what_is_left() -> None:
    page = results_page([planted()])
    assert "| F, w | `f.py x` | l4 --gpus 2 | fits | 0 B–1 MiB | 1 MiB–2 MiB | `a.py:1` |" in page
    assert "| `f.py x` | states | 108 | 2 B | 100 | a table: 8 | 0 |" in page
    assert "torch 2.15; f 1.2." in page


def test_a_row_without_an_answer_and_a_reading_that_is_not_its_closed_form_are_faults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forms = {"f.py x": {"states": ClosedForm("2 B", 100, {"a table": 8})}}
    monkeypatch.setattr(frameworks, "CLOSED_FORMS", forms)
    assert frameworks.faults(planted()) == []
    (said,) = frameworks.faults(planted(outcome="unsupported", evidence="why"))
    assert said == "f.py x: unsupported: why"
    wrong = {**planted()["readings"][0], "bytes": 107}
    assert frameworks.faults(planted(readings=[wrong])) == ["f.py x: states: 107 B, not 108"]
    assert frameworks.faults(planted(readings=[])) == ["f.py x: not printed: states"]


def test_each_closed_form_belongs_to_a_script() -> None:
    assert set(CLOSED_FORMS) <= {script["command"] for script in frameworks.SCRIPTS}


@pytest.mark.slow
@pytest.mark.usefixtures("cuda_build")
@pytest.mark.parametrize("script", frameworks.SCRIPTS, ids=lambda script: script["command"])
def test_the_script_is_answered_and_its_bytes_are_those_of_closed_forms(
    script: Mapping[str, Any],
) -> None:
    if why := frameworks.left_out(script, None):
        pytest.skip(why)
    if described_version() < TorchVersion(2, 15):
        pytest.skip("the frameworks' versions are those of torch 2.15")
    row = frameworks.row_of(script)
    assert frameworks.faults(row) == []
