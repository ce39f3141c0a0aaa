"""A figure is drawn once for its data and code; what cannot be kept is drawn each time."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pandas as pd
import pytest
from matplotlib.figure import Figure as Canvas

from harness.reporting import figure_cache
from harness.reporting.figure_cache import cache_folder, cached_picture, forget_unused
from harness.reporting.figures import Drawing, picture
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


SVG = "<svg><path d='M0 0'/></svg>"
PNG = b"\x89PNG"


@pytest.mark.parametrize(
    "svg",
    [
        "",
        "not a drawing",
        "<svg",
        "<svg><script>alert(1)</script></svg>",
        "<svg><SCRIPT>alert(1)</SCRIPT></svg>",
        "<svg/onload=alert(1)></svg>",
        '<svg><g onclick = "alert(1)"></g></svg>',
        '<svg><use xlink:href="javascript:alert(1)"/></svg>',
        "<svg><use href='https://example.org/x.svg#a'/></svg>",
        '<svg><use href="&#106;avascript:alert(1)"/></svg>',
        '<svg><image href="data:image/svg+xml;base64,AAAA"/></svg>',
        "<svg><foreignObject><p>text</p></foreignObject></svg>",
        '<svg><a xlink:href="#"><set attributeName="href" to="x"/></a></svg>',
        "<svg><style>* {background: url(//example.org)}</style></svg>",
        "<svg><style>@import '//example.org';</style></svg>",
        '<!DOCTYPE svg [<!ENTITY a "x">]><svg>&a;</svg>',
        '<?xml-stylesheet href="#a"?><svg></svg>',
    ],
)
def test_an_entry_that_is_no_drawing_is_not_taken(svg: str, tmp_path: Path) -> None:
    file = tmp_path / "entry"
    figure_cache._write(file, good := Drawing(svg=SVG, narrow_svg=SVG, png=PNG))
    assert figure_cache._read(file) == good
    for planted in (
        Drawing(svg=svg, narrow_svg=SVG, png=PNG),
        Drawing(svg=SVG, narrow_svg=svg, png=PNG),
        Drawing(svg=SVG, narrow_svg=SVG, png=svg.encode()),
    ):
        file.write_bytes(msgspec.msgpack.encode(planted))
        assert figure_cache._read(file) is None


EVIL = SVG.replace("</svg>", "<script>alert(1)</script></svg>")
SPOILT: dict[str, Callable[[Path], object]] = {
    "damaged": lambda file: file.write_bytes(file.read_bytes()[:100]),
    "with a script": lambda file: file.write_bytes(
        msgspec.msgpack.encode(Drawing(svg=EVIL, narrow_svg=EVIL, png=PNG))
    ),
    "for the group to write": lambda file: file.chmod(0o620),
    "for all to write": lambda file: file.chmod(0o602),
}
if os.geteuid() == 0:  # only root can give files away
    SPOILT["of another user"] = lambda file: os.chown(file, 65534, 65534)


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_an_entry_that_cannot_be_trusted_is_drawn_again(spoil: Callable[[Path], object]) -> None:
    times_drawn(FIGURE)
    (file,) = cache_folder().iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    spoil(file)
    assert times_drawn(FIGURE) > 0
    assert times_drawn(FIGURE) == 0


def test_every_committed_figure_could_come_from_the_cache() -> None:
    """Every figure of a report is found again: nothing in it is taken for foreign."""
    results = Path(__file__).parents[2] / "results"
    svgs = [path.read_text(encoding="utf-8") for path in results.glob("*/figures/*.svg")]
    assert len(svgs) > 20
    for svg in svgs:
        assert figure_cache._is_drawing(Drawing(svg=svg, narrow_svg=svg, png=PNG))
