"""A figure is drawn once for its data and code; what cannot be kept is drawn each time."""

import dataclasses
import os
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure as Canvas

from harness.reporting import figure_cache
from harness.reporting.figure_cache import cache_folder, cached_picture, forget_unused
from harness.reporting.figures import picture
from harness.schema.findings import Figure

DRAWN: list[int] = []


def line(canvas: Canvas, data: pd.DataFrame) -> None:
    """Draw a line, and remember that it was drawn."""
    DRAWN.append(len(data))
    canvas.subplots().plot(data["x"], data["y"])


FIGURE = Figure(
    name="one", caption="A line.", data=pd.DataFrame({"x": [1, 2], "y": [3, 4]}), draw=line
)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    DRAWN.clear()


def times_drawn(figure: Figure) -> int:
    before = len(DRAWN)
    drawn = cached_picture(figure)
    times = len(DRAWN) - before
    fresh = picture(figure)
    assert (drawn.svg, drawn.narrow_svg, drawn.png) == (fresh.svg, fresh.narrow_svg, fresh.png)
    assert (drawn.name, drawn.caption) == (fresh.name, fresh.caption)
    return times


def test_a_figure_is_drawn_once_for_each_of_its_contents() -> None:
    assert times_drawn(FIGURE) > 0
    assert times_drawn(FIGURE) == 0
    other = dataclasses.replace(FIGURE, data=FIGURE.data.assign(y=[3, 5]))
    assert times_drawn(other) > 0
    assert times_drawn(dataclasses.replace(FIGURE, caption="Another line.")) > 0
    assert times_drawn(FIGURE) == 0


def test_other_code_draws_again(monkeypatch: pytest.MonkeyPatch) -> None:
    times_drawn(FIGURE)
    monkeypatch.setattr(figure_cache, "_code_of", lambda package: package.encode())
    assert times_drawn(FIGURE) > 0


def test_a_function_without_a_name_draws_each_time() -> None:
    unnamed = dataclasses.replace(FIGURE, draw=lambda canvas, data: line(canvas, data))
    assert times_drawn(unnamed) > 0
    assert times_drawn(unnamed) > 0


def test_a_damaged_drawing_is_drawn_again() -> None:
    times_drawn(FIGURE)
    (file,) = cache_folder().iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert times_drawn(FIGURE) > 0
    assert times_drawn(FIGURE) == 0


def test_a_drawing_that_others_can_change_is_drawn_again() -> None:
    times_drawn(FIGURE)
    (file,) = cache_folder().iterdir()
    file.chmod(0o666)
    assert times_drawn(FIGURE) > 0
    assert times_drawn(FIGURE) == 0


def test_without_a_right_to_write_it_is_drawn_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert times_drawn(FIGURE) > 0
    assert times_drawn(FIGURE) > 0


def test_what_was_not_used_for_longest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure_cache, "MOST_KEPT", 2)
    cache_folder().mkdir(parents=True)
    for age, name in enumerate("abc"):
        (cache_folder() / name).touch()
        os.utime(cache_folder() / name, (age, age))
    forget_unused()
    assert sorted(file.name for file in cache_folder().iterdir()) == ["b", "c"]
