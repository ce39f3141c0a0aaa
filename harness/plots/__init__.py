"""Figures: each function paints a data frame on an empty canvas, wide or narrow.

category_colours.py     The colour of each category of a live byte
columns.py              Rows as a data frame whose columns have their types
frames.py               Records and predictions as rows of a data frame: its columns
intervals.py            Ratios with their intervals, one a line, each observation next to them
memory_page.py          The one page of predict, profile, dry-run and explain
notebook_html.py        Public objects as HTML, as a notebook shows them
public_objects.py       Pictures that plot() of the public objects returns
self_contained_page.py  A self-contained HTML page
series.py               Lines and dots along one variable: named series, models, ranges, limits
shown_tables.py         Tables that a terminal, a page and a notebook show alike
stacked.py              Live bytes by category: bars, and the one that leads in each cell
step_timeline.py        The picture of one step, and its data
theme.py                The look of every picture: colours, axes, names at the ends of lines
"""
