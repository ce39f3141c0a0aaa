"""A self-contained HTML page: no script, nothing loaded, readable in the dark and on a phone."""

from collections.abc import Iterable, Sequence
from html import escape

from harness.schema.plain_text import printable
from harness.schema.units import format_bytes

_STYLE = """
:root { color-scheme: light dark;
  --paper: #fff; --ink: #1f2328; --quiet: #57606a; --rule: #d8dee4; --edge: #57606a55;
  --bad: #b00020; --good: #1a7037; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14181d; --ink: #e6e9ed; --quiet: #a5aeb8; --rule: #343b44; --edge: #a5aeb866;
    --bad: #ff8a80; --good: #7fd69a; }
}
body { margin: 0 auto; max-width: 64rem; padding: 1.5rem 1rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
p { overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.2rem; margin-top: 2rem; }
h3 { font-size: 1.05rem; margin-top: 1.75rem; }
table { border-collapse: collapse; font-size: .875rem; min-width: 100%; }
caption { text-align: left; color: var(--quiet); padding-top: .75rem; }
th, td { padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--rule);
  text-align: left; vertical-align: top; font-weight: inherit; }
thead th { font-weight: 600; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.name { white-space: nowrap; } .long { min-width: 12rem; }
.scroll { overflow-x: auto; background:
  linear-gradient(to right, var(--paper) 30%, transparent) left / 3rem 100%,
  linear-gradient(to left, var(--paper) 30%, transparent) right / 3rem 100%,
  linear-gradient(to right, var(--edge), transparent) left / .8rem 100%,
  linear-gradient(to left, var(--edge), transparent) right / .8rem 100%;
  background-attachment: local, local, scroll, scroll; background-repeat: no-repeat; }
.scroll > svg { display: block; width: 100%; min-width: 40rem; height: auto; }
svg text { fill: var(--ink); } svg .rule { stroke: var(--rule); }
.bar { display: block; width: 100%; height: 3rem; }
.legend { list-style: none; padding: 0; margin: .5rem 0; font-size: .875rem;
  display: flex; flex-wrap: wrap; gap: .1rem 1.25rem; }
.legend .key { width: .8rem; height: .8rem; margin-right: .5rem; }
.quiet { color: var(--quiet); font-size: .875rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8rem; }
"""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def self_contained_page(title: str, body: str, *, style: str = "") -> str:
    """Return the page; ``body`` is HTML, ``style`` is added to the common one."""
    title = escape(title)
    return printable(f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{title}</title><link rel="icon" href="data:,">
<style>{_STYLE}{style}</style></head><body><main><h1>{title}</h1>
{body}
</main></body></html>
""")


def scrolling(label: str, content: str) -> str:
    """Return a region that scrolls sideways, with a shadow at the edge behind which it goes on."""
    return (
        f'<div class="scroll" role="region" aria-label="{escape(label)}" tabindex="0">'
        f"{content}</div>"
    )


def html_table(
    caption: str, heads: Sequence[str], rows: Iterable[Sequence[str | int | float]]
) -> str:
    """Return a table; a head that begins with ">" is of numbers.

    >>> page = html_table("two", ["name", ">bytes"], [["a & b", 1024]])
    >>> "a &amp; b" in page, "1,024" in page
    (True, True)
    """
    last = len(heads) - 1

    def cell(tag: str, at: int, value: str | float) -> str:
        words = escape(value if isinstance(value, str) else f"{value:,}").replace("  ", "&emsp;")
        scope = ' scope="col"' if tag == "th" else ""
        if heads[at].startswith(">") or not isinstance(value, str):
            return f'<{tag}{scope} class="number" style="text-align:right">{words}</{tag}>'
        if at == last:
            words = words.replace(".", ".<wbr>").replace("/", "/<wbr>")
        return f'<{tag}{scope} class="{"long" if at == last else "name"}">{words}</{tag}>'

    head = "".join(cell("th", at, text.removeprefix(">")) for at, text in enumerate(heads))
    body = "".join(
        f"<tr>{''.join(cell('td', at, text) for at, text in enumerate(row))}</tr>\n" for row in rows
    )
    table = (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>\n{body}</tbody></table>"
    )
    return printable(scrolling(caption, table))


def stacked_bar(label: str, parts: Sequence[tuple[str, int, str]], whole: int) -> str:
    """Return a bar of ``whole`` bytes with its legend; ``parts`` are name, bytes and colour."""
    bars, labels, at = [], [], 0.0
    for name, size, colour in parts:
        width = 100 * size / whole if whole else 0
        text = f"{name}: {format_bytes(size)}"
        labels.append((colour, f"{text} ({width / 100:.1%})"))
        bars.append(
            f'<rect x="{at:.2f}" width="{width:.2f}" height="10" fill="{colour}">'
            f"<title>{escape(text)}</title></rect>"
        )
        at += width
    return (
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}">{"".join(bars)}</svg>{legend(labels)}'
    )


def legend(labels: Sequence[tuple[str, str]]) -> str:
    """Return (colour, text) pairs as a list, in the page's own size of text."""
    items = "".join(
        f'<li><svg class="key" viewBox="0 0 10 10" aria-hidden="true">'
        f'<rect width="10" height="10" fill="{colour}"/></svg>{escape(text)}</li>'
        for colour, text in labels
    )
    return f'<ul class="legend">{items}</ul>'
