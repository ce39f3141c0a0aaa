"""The colour of each category of a live byte: the same in every picture and on every page."""

# Okabe & Ito (2008), "Color Universal Design".
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
SKY, VERMILION, PURPLE = "#56B4E9", "#D55E00", "#CC79A7"
GREY, VIOLET = "#8c8c8c", "#6e5f9e"

CATEGORY_COLOURS = {
    "parameter": BLUE,
    "gradient": ORANGE,
    "optimizer_state": PURPLE,
    "input": SKY,
    "activation": GREEN,
    "temporary": VERMILION,
}
"""By the category of a live byte, in the order in which they are stacked."""
