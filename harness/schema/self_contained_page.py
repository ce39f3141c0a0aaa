"""A self-contained HTML page: no script, nothing loaded, readable in the dark and on a phone."""

from html import escape

from harness.schema.plain_text import printable

_STYLE = """
:root { color-scheme: light dark;
  --paper: #fff; --ink: #1f2328; --quiet: #57606a; --rule: #d8dee4;
  --bad: #b00020; --good: #1a7037; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14181d; --ink: #e6e9ed; --quiet: #a5aeb8; --rule: #343b44;
    --bad: #ff8a80; --good: #7fd69a; }
}
body { margin: 0 auto; max-width: 64rem; padding: 1.5rem 1rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
table { border-collapse: collapse; font-size: .875rem; }
caption { text-align: left; color: var(--quiet); }
th, td { padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--rule);
  text-align: left; vertical-align: top; }
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
