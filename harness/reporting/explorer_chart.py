"""The explorer's pictures in Vega; this module alone needs the extra ``explorer``."""

from typing import Any

import altair as alt
import vl_convert

from harness.prediction.mlp.polynomials import POWERS
from harness.reporting.explorer_tables import CHOICES, PARTS, Row
from harness.reporting.plots.theme import CATEGORY_COLOURS, GREEN, INK, QUIET, RULE, VERMILION
from harness.schema.units import format_bytes
from harness.schema.workload import Workload

SLIDERS = {
    "depth": ("Depth (layers)", 1, 64, 1),
    "units": ("Width (units)", 8, 4096, 8),
    "batch": ("Batch", 8, 8192, 8),
}
"""Label, lowest, highest and step. Vega has a signal "width" of its own, hence "units"."""

START = {"depth": 8, "units": 256, "batch": 512, "dtype": "float32", "optimizer": "adam"}

BUDGETS = tuple(size * 2**20 for size in (64, 256, 1024, 4096, 8192, 16384, 24576, 40960, 81920))

_MOST = 2**20
"""The top of the axis: beyond it the line runs along the edge."""

_NAMES = {part: part.replace("_", " ") for part in PARTS} | {"activation": "activations saved"}


def chart(parts: list[Row], needs: list[Row]) -> dict[str, Any]:
    """Return the Vega specification over the tables ``parts`` and ``needs``."""
    views = alt.vconcat(_sentence(needs), _bars(parts), _frontier(needs), spacing=28)
    views = views.add_params(*_params()).configure(**_CONFIG)
    return _filling(vl_convert.vegalite_to_vega(views.to_dict()))


def polynomial(depth: str, batch: str = "batch") -> str:
    """Return a Vega expression: the bytes of a row, by its coefficients."""
    terms = []
    for place, powers in enumerate(POWERS):
        factors = [f"datum.c[{place}]"]
        for variable, power in zip((depth, "units", batch), powers, strict=True):
            factors += [variable] * power
        terms.append(" * ".join(factors))
    return " + ".join(terms)


def _text(size: str) -> str:
    """Return a Vega expression: ``size`` bytes in binary units, four digits."""
    power = f"min(4, floor(log(max(1, {size})) / log(1024) + 1e-12))"
    units = "['B', 'KiB', 'MiB', 'GiB', 'TiB']"
    return f"format({size} / pow(1024, {power}), '.4~g') + ' ' + {units}[{power}]"


def _params() -> list[Any]:
    found = []
    for name, (label, low, high, step) in SLIDERS.items():
        bind = alt.binding_range(min=low, max=high, step=step, name=label)
        found.append(alt.param(name=name, value=START[name], bind=bind))
    for name, values in CHOICES.items():
        choice = alt.binding_select(options=list(values), name=name.capitalize())
        value = START.get(name, getattr(Workload(), name))
        found.append(alt.param(name=name, value=value, bind=choice))
    labels = [format_bytes(budget) for budget in BUDGETS]
    choice = alt.binding_select(options=list(BUDGETS), labels=labels, name="Budget")
    return [*found, alt.param(name="budget", value=2**28, bind=choice)]


def _chosen(table: list[Row]) -> Any:
    """Return a chart over the rows of ``table`` that the choices leave."""
    data = alt.InlineData(values=table)
    test = " && ".join(f"datum.{name} == {name}" for name in CHOICES)
    return alt.Chart(data).transform_filter(test)


def _bars(parts: list[Row]) -> Any:
    order = [_NAMES[part] for part in PARTS]
    colours = [CATEGORY_COLOURS[part] for part in PARTS]
    base = (
        _chosen(parts)
        .transform_calculate(
            bytes=polynomial("depth"),
            name=f"{_NAMES}[datum.part]",
        )
        .transform_calculate(
            size=_text("datum.bytes"),
            spoken="datum.name + ': ' + format(datum.bytes, ',') + ' bytes'",
        )
        .encode(
            y=alt.Y("name:N", sort=order, title=None),
            description="spoken:N",
            tooltip=alt.Tooltip("spoken:N", title=" "),
        )
    )
    longest = alt.X(
        "bytes:Q",
        axis=None,
        scale=alt.Scale(zero=True, nice=False, rangeMax=alt.ExprRef(f"width - {_SIZES}")),
    )
    bars = base.mark_bar(cornerRadiusEnd=2).encode(
        x=longest,
        color=alt.Color("name:N", scale=alt.Scale(domain=order, range=colours), legend=None),
    )
    labels = base.mark_text(align="left", dx=6, fontSize=12, color=INK).encode(
        x=longest, text="size:N"
    )
    return (bars + labels).properties(title="Where the memory goes", width=_WIDTH, height=170)


def _need(needs: list[Row]) -> Any:
    """Return a chart with one row: the most bytes alive, and the largest batch that fits."""
    return (
        _chosen(needs)
        .transform_filter("datum.first <= depth && (datum.last == null || depth <= datum.last)")
        .transform_calculate(bytes=polynomial("depth"), fits=_largest_batch("depth"))
        .transform_aggregate(needed="max(bytes)", largest="min(fits)")
    )


def _largest_batch(depth: str) -> str:
    """Return a Vega expression: the largest batch for which a row stays within the budget."""
    fixed, whole = (f"({polynomial(depth, batch)})" for batch in ("0", "1"))
    each = f"({whole} - {fixed})"
    return f"{fixed} > budget ? 0 : {each} > 0 ? floor((budget - {fixed}) / {each}) : {_MOST}"


def _sentence(needs: list[Row]) -> Any:
    room = (
        "datum.largest < 1 ? 'No batch fits.' : datum.largest >= "
        f"{_MOST} ? 'So does any batch of the axis below.' : "
        "'The largest batch that fits: ' + format(datum.largest, ',')"
    )
    fits = "datum.needed <= budget"
    base = (
        _need(needs)
        .transform_calculate(
            need="'At most ' + " + _text("datum.needed") + " + ' at once'",
            verdict=f"({fits} ? 'Fits into ' : 'Does not fit into ') + {_text('budget')}",
            room=room,
            spoken="'needed: ' + format(datum.needed, ',') + ' bytes; largest batch: '"
            " + format(datum.largest, ',')",
        )
        .encode(x=alt.value(-_LABELS), description="spoken:N")
    )
    head = base.mark_text(align="left", fontSize=22, fontWeight=600, color=INK).encode(
        y=alt.value(12), text="need:N"
    )
    ruling = base.mark_text(align="left", fontSize=14, fontWeight=600).encode(
        y=alt.value(42),
        text="verdict:N",
        color=alt.condition(fits, alt.value(_GOOD), alt.value(_BAD)),
    )
    rest = base.mark_text(align="left", fontSize=14, color=QUIET).encode(
        y=alt.value(64), text="room:N"
    )
    return (head + ruling + rest).properties(width=_WIDTH, height=72)


def _frontier(needs: list[Row]) -> Any:
    _, low, high, _ = SLIDERS["depth"]
    line = (
        _chosen(needs)
        .transform_calculate(layers=f"sequence(datum.first, min(datum.last || {high}, {high}) + 1)")
        .transform_flatten(["layers"])
        .transform_calculate(fits=_largest_batch("datum.layers"))
        .transform_aggregate(largest="min(fits)", groupby=["layers"])
        .transform_calculate(
            shown=f"clamp(datum.largest, 1, {_MOST})",
            floor="1",
            spoken="'depth ' + datum.layers + ': largest batch ' + format(datum.largest, ',')",
        )
    )
    depth = alt.Scale(domain=[low, high], nice=False)
    batch = alt.Scale(type="log", base=2, domain=[1, _MOST], clamp=True, nice=False)
    ticks = [4**power for power in range(0, 11, 2)]
    area = line.mark_area(
        color=GREEN, opacity=0.16, line={"color": GREEN, "strokeWidth": 2}, aria=False
    ).encode(
        x=alt.X("layers:Q", scale=depth, title="depth, hidden layers"),
        y=alt.Y(
            "shown:Q",
            scale=batch,
            title="largest batch that fits",
            axis=alt.Axis(values=ticks, format=",d"),
        ),
        y2="floor:Q",
    )
    dots = line.mark_point(opacity=0, size=120).encode(
        x=alt.X("layers:Q", scale=depth),
        y=alt.Y("shown:Q", scale=batch),
        description="spoken:N",
        tooltip=alt.Tooltip("spoken:N", title=" "),
    )
    fits = "datum.needed <= budget"
    mark = (
        _need(needs)
        .transform_calculate(
            depth="depth",
            batch="batch",
            spoken=f"'the chosen step ' + ({fits} ? 'fits' : 'does not fit')",
        )
        .mark_point(filled=True, size=150, stroke="white", strokeWidth=2, opacity=1)
        .encode(
            x=alt.X("depth:Q", scale=depth),
            y=alt.Y("batch:Q", scale=batch),
            color=alt.condition(fits, alt.value(GREEN), alt.value(VERMILION)),
            shape=alt.condition(fits, alt.value("circle"), alt.value("cross")),
            description="spoken:N",
            tooltip=alt.Tooltip("spoken:N", title=" "),
        )
    )
    return (area + dots + mark).properties(
        title="What fits into the budget", width=_WIDTH, height=260
    )


_WIDTH = 600
"""Stands for the width in the page until ``_filling`` puts that in its place."""

_LABELS, _SIZES = 112, 72
"""Room for the labels on the left, and for the sizes beside the bars."""

_FILLED = f"isFinite(containerSize()[0]) ? max(160, containerSize()[0] - {_LABELS + 18}) : 400"
"""The width in the page: what the labels on the left leave."""

_GOOD, _BAD = "#0a6b46", "#a3330b"
"""The report's colours of a supported and a refuted sentence, in words as well."""

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"

_CONFIG: Any = {
    "font": _FONT,
    "background": "white",
    "view": {"stroke": None},
    "title": {"anchor": "start", "fontSize": 14, "color": INK, "offset": 12, "frame": "group"},
    "axis": {
        "labelColor": INK,
        "titleColor": QUIET,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "gridColor": RULE,
        "domainColor": QUIET,
        "tickColor": QUIET,
        "labelLimit": 200,
    },
    "axisY": {"domain": False, "ticks": False, "labelPadding": 8},
}


def _filling(spec: dict[str, Any]) -> dict[str, Any]:
    """Let the views fill their container, as Vega-Lite allows for a single view alone.

    All views have one width, which Vega-Lite then gives to the whole as the signal "width".
    """
    width = {
        "name": "width",
        "init": _FILLED,
        "on": [{"events": "window:resize", "update": _FILLED}],
    }
    rest = {name: value for name, value in spec.items() if name != "width"}
    return rest | {"signals": [width, *spec["signals"]]}
