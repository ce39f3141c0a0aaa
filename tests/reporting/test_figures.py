import functools
import io
import re
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure as Canvas
from PIL import Image

from harness.reporting import charts
from harness.reporting.charts import _apart
from harness.reporting.figures import inline_svg, picture
from harness.reporting.theme import CATEGORY_COLOURS, contrast, ink_on, ordered_colours, readable
from harness.schema.findings import Figure

DATA = pd.DataFrame(
    {"depth": [1, 1, 2, 2], "batch": [16, 32, 16, 32], "measured": [10, 20, 2**20, 0]}
).astype("Int64")


def _figure(caption: str = "A <caption> & more") -> Figure:
    draw = functools.partial(charts.heat_map, value="measured", label="$a$ <b>")
    return Figure(name="one", caption=caption, data=DATA, draw=draw)


def test_a_figure_is_the_same_bytes_whatever_the_users_settings() -> None:
    first = picture(_figure())
    with mpl.rc_context({"font.size": 30, "axes.grid": False, "svg.fonttype": "path"}):
        second = picture(_figure())
    assert first.svg == second.svg
    assert first.png == second.png


def test_neither_date_nor_path_is_in_a_picture() -> None:
    drawn = picture(_figure())
    assert not re.search(r"\b20\d\d-\d\d", drawn.svg)
    assert "dc:date" not in drawn.svg
    assert Image.open(io.BytesIO(drawn.png)).info["Title"] == "A <caption> & more"


def test_the_svg_is_well_formed_carries_its_caption_and_keeps_dollars() -> None:
    root = ET.fromstring(picture(_figure()).svg)
    space = "{http://www.w3.org/2000/svg}"
    title = root.find(f"{space}title")
    assert title is not None
    assert title.text == "A <caption> & more"
    texts = ["".join(item.itertext()).strip() for item in root.iter(f"{space}text")]
    assert "$a$ <b>" in texts
    assert "batch (examples)" in texts
    assert "depth (hidden layers)" in texts


def test_an_inline_picture_has_ids_of_its_own_and_fills_its_box() -> None:
    drawn = picture(_figure())
    one, two = (inline_svg(drawn, name, "label") for name in ("one", "two"))
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (one, two)]
    assert ids[0]
    assert not ids[0] & ids[1]
    opening = one[: one.index(">")]
    assert "viewBox=" in opening
    assert " width=" not in opening
    assert 'role="img" aria-labelledby="label"' in opening
    ET.fromstring(one)


@pytest.mark.parametrize("most", [0, 1])
def test_a_heat_map_survives_few_and_empty_cells(most: int) -> None:
    data = DATA.head(max(most, 1)).assign(measured=pd.array([most] * max(most, 1), dtype="Int64"))
    canvas = Canvas()
    charts.heat_map(canvas, data, value="measured", label="x")
    shown = [text.get_text() for text in canvas.axes[0].texts]
    assert len(shown) == len(data)
    assert all(str(most) in text for text in shown)


def test_a_line_that_was_not_measured_everywhere_is_drawn_where_it_was() -> None:
    canvas = Canvas()
    data = DATA.assign(best=DATA["measured"].astype("float64"))
    charts.growth(canvas, data, value="measured", label="x")
    left = canvas.axes[0]
    points = [line for line in left.lines if line.get_marker() == "o"]
    assert sorted(len(np.asarray(line.get_xdata())) for line in points) == [1, 2]


def test_labels_are_moved_apart_and_no_further() -> None:
    assert _apart([0.0, 0.5, 1.0], 0.1) == pytest.approx([0.0, 0.5, 1.0])
    moved = _apart([0.5, 0.5, 0.5, 0.9], 0.1)
    assert moved == pytest.approx([0.4, 0.5, 0.6, 0.9])
    assert np.diff(_apart([0.1, 0.11, 0.12, 0.3, 0.31], 0.05)) == pytest.approx(
        [0.05, 0.05, 0.12, 0.05], abs=1e-9
    )


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("white", "black") == pytest.approx(21.0)
    assert contrast("#777777", "white") == pytest.approx(4.48, abs=0.005)


def test_labels_can_be_read() -> None:
    for colour in [*ordered_colours(9), *CATEGORY_COLOURS.values()]:
        assert contrast(readable(colour), "white") >= 4.5
    for colour in CATEGORY_COLOURS.values():
        assert contrast(ink_on(colour), colour) >= 4.5
