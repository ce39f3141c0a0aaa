"""Figures: each function paints a data frame on an empty canvas, wide or narrow.

frontier.py        The frontier at which networks stop fitting
intervals.py       Ratios with their intervals, one a line, each observation next to them
labels.py          Names at the ends of lines, moved apart where they would collide
live_bytes.py      Live bytes by category, event by event, over the measured step
owners.py          Which category leads at the peak, over depth and batch
probes.py          A search for a threshold: each probed value, in the order of the search
public_objects.py  Pictures that plot() of the public objects returns
series.py          Lines and dots along one variable: named series, models, ranges, limits
stacked.py         Bars of live bytes, a part for each category
step_timeline.py   The picture of one step
theme.py           The look of every picture
"""
