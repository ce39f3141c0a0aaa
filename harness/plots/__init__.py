"""Figures: each function paints a data frame on an empty canvas, wide or narrow.

frames.py          Records and predictions as rows of a data frame: its columns
intervals.py       Ratios with their intervals, one a line, each observation next to them
notebook_html.py   Public objects as HTML, as a notebook shows them
public_objects.py  Pictures that plot() of the public objects returns
series.py          Lines and dots along one variable: named series, models, ranges, limits
stacked.py         Live bytes by category: bars, and the one that leads in each cell
step_timeline.py   The picture of one step, and its data
theme.py           The look of every picture: colours, axes, names at the ends of lines
"""
