"""The colour of each memory category; all figures and pages use the same colours."""

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
"""Colour of each category of live bytes, in the order in which figures stack the categories."""

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
"""Colour of each category of blocks in a recording of PyTorch's allocator."""

PART_COLOURS = CATEGORY_COLOURS | {
    "interpreter": "#4d5560",
    "libraries": "#868e96",
    "heap": ORANGE,
    "tensors": BLUE,
}
"""Colour of each category of live bytes and of each part of a process's memory."""

LEVELS = ("#4d5560", "#868e96", "#a89bc9", "#b8bfc6", "#7a6a3a", "#c9b977")
"""Colours for the parts of a GPU's memory, e.g. allocated bytes or reserved bytes."""
