"""The colour of each category of live bytes, the same in every picture and on every page."""

# Okabe & Ito (2008), "Color Universal Design".
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
SKY, VERMILION, PURPLE = "#56B4E9", "#D55E00", "#CC79A7"
GREY, VIOLET = "#8c8c8c", "#6e5f9e"
LIGHT_BLUE, LIME = "#7a9cc6", "#8ab661"

CATEGORY_COLOURS = {
    "parameter": BLUE,
    "gradient": ORANGE,
    "optimizer_state": PURPLE,
    "input": SKY,
    "activation": GREEN,
    "temporary": VERMILION,
}
"""Colours by the category of live bytes, in the order in which pictures stack them."""

BLOCK_COLOURS = {
    "before": GREY,
    "parameter": BLUE,
    "gradient": ORANGE,
    "backward": ORANGE,
    "optimizer_state": PURPLE,
    "optimizer": PURPLE,
    "buffer": LIGHT_BLUE,
    "other": SKY,
    "activation": GREEN,
    "forward": LIME,
    "workspace": VIOLET,
    "unknown": GREY,
}
"""Colours by the category of a block in a recording."""

PART_COLOURS = CATEGORY_COLOURS | {
    "interpreter": "#4d5560",
    "libraries": "#868e96",
    "heap": ORANGE,
    "tensors": BLUE,
}
"""Colours by the category of live bytes or by the part of a process."""

LEVELS = ("#4d5560", "#868e96", "#a89bc9", "#b8bfc6", "#7a6a3a", "#c9b977")
"""Colours by part of a GPU's memory, e.g. allocated, reserved or outside."""
