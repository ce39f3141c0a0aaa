"""The page of metrics explains every column of ``harness.load``."""

import re
from dataclasses import fields
from pathlib import Path

from harness.plots.frames import COLUMNS
from harness.schema.workload import Workload

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_every_column_is_named_on_the_page_of_metrics() -> None:
    named = re.findall(r"`([a-z_]+(?:\.[a-z_<>]+)*)`", PAGE.read_text(encoding="utf-8"))
    patterns = [re.sub("<[a-z]+>", "[a-z_.]+", name) for name in named]
    columns = COLUMNS.keys() - {item.name for item in fields(Workload)}
    assert len(columns) > 50
    assert {
        one for one in columns if not any(re.fullmatch(each, one) for each in patterns)
    } == set()
