"""Which category leads at the peak, over depth and batch."""

import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch

from harness.plots.theme import (
    bytes_text,
    ink_on,
    is_narrow,
)
from harness.schema.category_colours import CATEGORY_COLOURS


def owners(canvas: Canvas, data: pd.DataFrame) -> None:
    """Paint which category leads at the peak, over depth (rows) and batch (columns).

    ``data`` holds ``depth``, ``batch``, ``owner``, its ``share`` of the peak (0 to 1) and
    ``peak_live_bytes``. Each cell has the leader's colour and names its share; the wider
    figure names the peak too.
    """
    axes = canvas.add_subplot()
    depths, batches = (sorted(int(at) for at in data[key].unique()) for key in ("depth", "batch"))
    narrow = is_narrow(canvas)
    for depth, batch, owner, share, peak in zip(
        *(data[key] for key in ("depth", "batch", "owner", "share", "peak_live_bytes")), strict=True
    ):
        row, column = depths.index(int(depth)), batches.index(int(batch))
        colour = CATEGORY_COLOURS[str(owner)]
        axes.barh(row, 0.95, 0.93, left=column - 0.475, color=colour)
        words = f"{100 * float(share):.0f}" if narrow else f"{100 * float(share):.0f}%"
        if not narrow:
            words += f"\n{bytes_text(float(peak))}"
        axes.text(
            column,
            row,
            words,
            ha="center",
            va="center",
            fontsize=8 if narrow else 7.5,
            color=ink_on(colour),
        )
    axes.set_xticks(range(len(batches)), [f"{batch}" for batch in batches])
    if narrow:
        axes.tick_params(axis="x", labelrotation=45)
    axes.set_yticks(range(len(depths)), [f"{depth}" for depth in depths])
    axes.set_xlabel("batch (examples)")
    axes.set_ylabel("depth (hidden layers)")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    led = [name for name in CATEGORY_COLOURS if name in set(data["owner"])]
    handles = [Patch(color=CATEGORY_COLOURS[name]) for name in led]
    texts = [f"{name.replace('_', ' ')} leads" for name in led]
    canvas.legend(handles, texts, loc="outside lower center", ncols=2 if narrow else len(led))
