"""``harness report``: what it says where there is nothing to report."""

import json
from pathlib import Path

from msgspec.structs import replace

from harness.schema.record import Outcome
from tests.analysis import planted
from tests.child_process import child
from tests.commands import Ask


def test_a_run_whose_cells_all_failed_is_said_at_once(tmp_path: Path, ask: Ask) -> None:
    records = [replace(one, outcome=Outcome.OOM) for one in planted.grid((1,), (16, 64))]
    planted.write(tmp_path / "depth_batch", records)
    assert "cells completed, so nothing can be reported" in ask(["report", str(tmp_path)], 3).out
    answer = json.loads(ask(["report", str(tmp_path), "--json"], 3).out)
    assert answer["page"] is None
    code = (
        "import sys\nfrom harness.cli.app import main\n"
        f"assert main(['report', {str(tmp_path)!r}]) == 3\n"
        "print([m for m in ('torch', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    assert child(code).stdout.splitlines()[-1] == "[]"
