import functools
import re
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle

from harness.plots.category_colours import CATEGORY_COLOURS
from harness.plots.series import series
from harness.plots.stacked import stacked
from harness.plots.theme import (
    DARK,
    INK,
    PAPER,
    End,
    contrast,
    dark_colours,
    ink_on,
    label_ends,
    ordered_colours,
)
from harness.reporting.figures import colour_properties, inline_svg, picture
from harness.schema.findings import Figure

DATA = pd.DataFrame(
    {"depth": [1, 1, 2, 2], "batch": [16, 32, 16, 32], "measured": [10, 20, 2**20, 0]}
).astype("Int64")


def _figure(caption: str = "A <caption> & more") -> Figure:
    draw = functools.partial(series, x="depth", y="measured", line="batch", label="a <b>")
    return Figure(name="one", caption=caption, data=DATA, draw=draw)


def test_a_figure_is_the_same_bytes_whatever_the_users_settings() -> None:
    first = picture(_figure())
    with mpl.rc_context({"font.size": 30, "axes.grid": False, "svg.fonttype": "path"}):
        second = picture(_figure())
    assert first.svg == second.svg
    assert first.png == second.png
    assert "dc:date" not in first.svg


def test_the_svg_is_well_formed_and_carries_its_caption() -> None:
    root = ET.fromstring(picture(_figure()).svg)
    space = "{http://www.w3.org/2000/svg}"
    title = root.find(f"{space}title")
    assert title is not None
    assert title.text == "A <caption> & more"
    texts = ["".join(item.itertext()).strip() for item in root.iter(f"{space}text")]
    assert "a <b>" in texts
    assert "batch" in texts
    assert "depth (hidden layers)" in texts


def test_a_logarithmic_axis_of_a_users_figure_has_powers_as_labels() -> None:
    def draw(canvas: Canvas, data: pd.DataFrame) -> None:
        canvas.add_subplot().loglog([1, 10, 10**6], [1, 2, 3])

    root = ET.fromstring(picture(Figure(name="one", caption="c", data=DATA, draw=draw)).svg)
    texts = ["".join(item.itertext()) for item in root.iter("{http://www.w3.org/2000/svg}text")]
    shown = [re.sub(r"\s", "", text) for text in texts]
    assert {"100", "101", "106"} <= set(shown), "10 with its exponent raised"
    assert not any("$" in text or "math" in text for text in shown)


PARTS = pd.DataFrame(
    {
        "panel": ["A", "A", "B"], "bar": ["x", "y", "x"], "parameter": [100, 100, 100],
        "gradient": [0, 100, 50], "activation": [300, 0, 7],
    }
)  # fmt: skip


@pytest.mark.parametrize("width", [4.0, 8.0])
def test_stacked_parts_add_up_to_the_total_beside_each_bar(width: float) -> None:
    canvas = Canvas(figsize=(width, 3))
    stacked(canvas, PARTS, panel="panel", bar="bar")
    assert len(canvas.axes) == 2
    for axes, expected in zip(canvas.axes, ([400, 200], [157]), strict=True):
        ends = [0.0] * len(expected)
        for patch in axes.patches:
            assert isinstance(patch, Rectangle)
            row = round(patch.get_y() + patch.get_height() / 2)
            ends[row] += patch.get_width()
        assert ends == expected
        assert [text.get_text() for text in axes.texts] == [f"{total} B" for total in expected]


def test_a_series_is_drawn_where_it_was_measured_and_named_at_its_end() -> None:
    canvas = Canvas()
    data = DATA.assign(measured=[10.0, np.nan, 20.0, 40.0])
    marked = (15.0, "half")
    series(canvas, data, x="depth", y="measured", line="batch", label="x", marked=marked)
    (axes,) = canvas.axes
    known = [int(np.isfinite(np.asarray(line.get_ydata())).sum()) for line in axes.lines[:2]]
    assert known == [2, 1]
    assert {text.get_text() for text in axes.texts} == {"16", "32", "batch", "half"}


def test_lines_that_end_at_one_height_are_named_in_their_order() -> None:
    axes = Canvas().add_subplot()
    names = list("fbadecg")
    label_ends(axes, [End(x=1.0, y=0.5, text=name, colour=INK) for name in names])
    shown = sorted(axes.texts, key=lambda text: float(text.get_position()[1]))
    assert [text.get_text() for text in shown] == names


def test_what_is_written_can_be_read_in_light_and_in_the_dark() -> None:
    for colour in CATEGORY_COLOURS.values():
        assert contrast(ink_on(colour), colour) >= 4.5
    assert contrast(INK, PAPER) >= 4.5
    assert contrast(DARK[INK], DARK[PAPER]) >= 4.5
    assert contrast("#777777", "white") == pytest.approx(4.48, abs=0.005), "WCAG's own"
    for place, colour in enumerate(ordered_colours(9)):
        assert contrast(dark_colours()[colour], DARK[PAPER]) >= 3
        assert place > 5 or contrast(colour, PAPER) >= 3


def test_a_page_knows_every_colour_that_changes_in_the_dark() -> None:
    text = inline_svg(picture(_figure()).svg, "one", "label")
    used = set(re.findall(r"var\((--c[0-9a-f]{6}), ", text))
    assert f"--c{INK[1:]}" in used
    for dark in (False, True):
        defined = set(re.findall(r"(--c[0-9a-f]{6}): #", colour_properties(dark=dark)))
        assert used <= defined
