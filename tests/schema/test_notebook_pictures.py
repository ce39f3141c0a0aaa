"""A picture appears once in a notebook: behind a semicolon, as a value, and in a later cell."""

from typing import Any

import pytest

import harness

CELLS = {
    "report.plot();": 1, "report.plot()": 1, "picture = report.plot()": 1, "picture": 1,
    "for _ in range(2): report.plot()": 2, "None": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def shell() -> Any:
    pytest.importorskip("IPython", reason="needs IPython (extra: docs)")
    from IPython.testing.globalipapp import start_ipython

    return start_ipython()


def test_a_cell_shows_its_picture_once(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from IPython.utils.capture import capture_output

    monkeypatch.setattr(shell, "kernel", object(), raising=False)
    shell.user_ns["report"] = harness.predict(harness.Workload(depth=2, batch=8))
    for cell, pictures in CELLS.items():
        with capture_output() as seen:
            shell.run_cell(cell, store_history=True)
        assert sum("image/png" in output.data for output in seen.outputs) == pictures, cell
        assert "Picture" not in seen.stdout, cell
