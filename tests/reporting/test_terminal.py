"""Text of the commands where nobody looks at a terminal."""

from harness.plots.sheet import Sheet, ShownTable, sheet_text

LONG = "model.layers.0-23.post_attention_layernorm (LlamaRMSNorm x24) " * 3


def test_a_name_is_whole_in_a_pipe() -> None:
    table = ShownTable(heads=("layer", ">saved"), rows=[(LONG, "8 KiB"), ("head", "64 KiB")])
    _, first, second = sheet_text(Sheet(title="", verdict=[], parts=[table])).splitlines()
    assert first == f"{LONG}   8 KiB"
    assert second.split() == ["head", "64", "KiB"]


def test_a_narrow_terminal_leaves_out_the_column_that_is_spared_before_it_breaks_a_name() -> None:
    name = "model.layers.0–23.self_attn.q_proj (Linear x24)"
    heads = ("layer", ">parameters", ">output", ">of the peak")
    table = ShownTable(heads=heads, rows=[(name, "8 KiB", "64 KiB", "1.0%")], spare=">output")
    sheet = Sheet(title="", verdict=[], parts=[table])
    for width, has_output in ((79, False), (80, True), (None, True)):
        out = sheet_text(sheet, width=width)
        assert name in out
        assert ("64 KiB" in out) == has_output


def test_the_answer_alone_is_bold_and_no_text_commands_the_terminal() -> None:
    sheet = Sheet(title="", verdict=["fits", "a\nb"], parts=["\x1b[2J"], notes=["why"])
    first, second, *rest = sheet_text(sheet, bold=True).splitlines()
    assert (first, second) == ("\x1b[1mfits\x1b[0m", "\x1b[1ma\\nb\x1b[0m")
    assert rest == ["\\x1b[2J", "note: why"]
