"""Two predictions compared by ``harness report --against``."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Ask


def test_two_predictions_of_a_model_differ_by_what_was_widened(tmp_path: Path, ask: Ask) -> None:
    files = []
    for width in ("64", "96"):
        flags = ["--depth", "2", "--batch", "8", "--width", width, "--json"]
        files.append(str(tmp_path / width))
        Path(files[-1]).write_text(ask(["predict", *flags]).out)
    assert ask(["report", files[0], "--against", files[0]]).out == "the two predictions are equal\n"
    rows = {
        line.split()[0]: line
        for line in ask(["report", files[1], "--against", files[0]], 3).out.splitlines()
    }
    # One more ReLU output and one mask of 32 columns, 8 rows of 4 bytes: 1,024 B a layer.
    assert rows["modules.1.saved_bytes"].endswith("+1 KiB")
    assert "peak_live_bytes" in rows


FIT = {
    "gpu": "l4", "allocator_settings": "", "reserved_peak_bytes": [1, 2], "verdict": "fits",
    "largest_batch": 7,
}  # fmt: skip
LAYERS = [{"name": "a", "saved_bytes": 1}, {"name": "b", "saved_bytes": 4}]
PREDICTION: dict[str, Any] = {
    "outcome": "predicted", "target": "net.py:Net", "batch": 8, "saved_bytes": 5,
    "peak_live_bytes": 100, "rss_rise_bytes": None, "layers": LAYERS, "fit": FIT,
    "notes": ["PyTorch 9.9 is not known"], "environment": {"python": "3.11"},
    "wall_seconds": 0.25,
}  # fmt: skip


Compare = Callable[[object, object, int], str]


@pytest.fixture
def compare(tmp_path: Path, ask: Ask) -> Compare:
    """Compare two predictions, or texts, with an expected exit code; return what is said."""

    def said(first: object, second: object, code: int) -> str:
        for name, content in (("a.json", first), ("b.json", second)):
            text = content if isinstance(content, str) else json.dumps(content)
            (tmp_path / name).write_text(text)
        return "".join(
            ask(["report", str(tmp_path / "b.json"), "--against", str(tmp_path / "a.json")], code)
        )

    return said


@pytest.mark.parametrize(
    ("change", "row"),
    [
        ({"fit": FIT | {"verdict": "does not fit"}}, "fit.verdict fits does not fit"),
        ({"fit": FIT | {"largest_batch": None}}, "fit.largest_batch 7 -"),
        ({"fit": FIT | {"reserved_peak_bytes": [1, 2050]}}, "fit.reserved_peak_bytes.high 2 B"),
        ({"fit": FIT | {"allocator_settings": "a:1"}}, "fit.allocator_settings a:1"),
        ({"fit": None}, "fit.verdict fits -"),
        ({"peak_live_bytes": None}, "peak_live_bytes 100 B - -100 B"),
        ({"rss_rise_bytes": 0}, "rss_rise_bytes - 0 B +0 B"),
        ({"batch": 9}, "batch 8 9"),
        ({"layers": [*LAYERS[::-1], {"name": "c", "saved_bytes": 0}]}, "layers.c.name"),
        ({"layers": [{"name": "a", "saved_bytes": 1}]}, "layers.b.saved_bytes 4 B - -4 B"),
        ({"outcome": "unsupported"}, "outcome predicted unsupported"),
        ({"notes": []}, "notes.0 PyTorch 9.9"),
        ({"saved_bytes": "5"}, "saved_bytes 5 B 5"),
        ({"saved_bytes": True}, "saved_bytes 5 B True"),
        ({"saved_bytes": 5.0}, "saved_bytes 5 B 5.0"),
    ],
)
def test_a_difference_in_any_value_is_named(
    change: dict[str, Any], row: str, compare: Compare
) -> None:
    assert row in " ".join(compare(PREDICTION, PREDICTION | change, 3).split())


def test_layers_of_equal_blocks_are_one_row_that_names_them(compare: Compare) -> None:
    def prediction(size: int) -> dict[str, Any]:
        layers = [{"name": f"blocks.{at}.up", "saved_bytes": size} for at in range(12)]
        modules = {each["name"]: {"saved_bytes": size} for each in layers}
        phases = {"backward": {"peak_live_bytes": size * 10}}
        whole = {"peak_live_bytes": size * 10, "layers": layers, "modules": modules}
        return {**PREDICTION, **whole, "phases": phases}

    _, *rows = compare(prediction(1 << 20), prediction(1 << 21), 3).splitlines()
    assert [(row.split("  ")[0], row.split("  ")[-1].strip()) for row in rows] == [
        ("peak_live_bytes (and 1 alike)", "+10 MiB"),
        ("layers.blocks.0–11.up.saved_bytes x12", "+1 MiB"),
    ]


def test_two_are_equal_in_their_answer_and_only_if_there_is_one(compare: Compare) -> None:
    other = {"target": "other.py:Net", "environment": {"python": "3.14"}, "wall_seconds": 9.5}
    equal = "the two predictions are equal\n"
    assert compare(PREDICTION, PREDICTION | other | {"layers": LAYERS[::-1]}, 0) == equal
    for change in ({"peak_live_bytes": None}, {"outcome": "unsupported"}):
        none = PREDICTION | change
        rule = "neither prediction has an answer, so nothing can be compared\n"
        assert compare(none, none, 3) == rule


def test_a_table_of_gpus_is_compared(compare: Compare) -> None:
    def table(verdict: str) -> dict[str, Any]:
        gpus = [FIT, FIT | {"gpu": "t4", "verdict": verdict}]
        return {"outcome": "predicted", "target": "x", "gpus": gpus}

    compare(table("fits"), table("fits"), 0)
    said = compare(table("fits"), table("close call"), 3)
    assert "gpus.t4.verdict fits close call" in " ".join(said.split())


@pytest.mark.parametrize(
    "text",
    [
        "import torch\n", "4", '"saved_bytes"', '{"saved_bytes": 4}', '{"outcome": "predicted"}',
        '{"outcome": "predicted", "saved_bytes": 1, "saved_bytes": 2}',
        '{"outcome": "predicted", "saved_bytes": NaN}',
        '{"outcome": "predicted", "saved_bytes": 4', "[" * 100_000,
    ],
)  # fmt: skip
def test_a_file_without_a_prediction_is_one_line(
    text: str, tmp_path: Path, compare: Compare, ask: Ask
) -> None:
    (said,) = compare(PREDICTION, text, 2).splitlines()
    assert said.endswith("b.json is not a prediction that harness predict --json printed")
    folder = ask(["report", str(tmp_path / "a.json"), "--against", str(tmp_path)], 2)
    assert "two folders or two files" in folder.err
