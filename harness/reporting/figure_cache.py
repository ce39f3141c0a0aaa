"""Keeps drawn figures in the user's cache, so that a report draws only those that changed.

A drawing is found by a hash of all that it depends on: the figure with its data, the code of the
harness and of the package that draws it, and the versions of the libraries. Nothing is taken from
the folder of records, which may come from anybody, nor from a file in the cache that another user
can write or that holds more than a drawing. The cache may be deleted at any time.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from harness.reporting.figures import Drawing, Picture, drawing, picture_of
from harness.schema.findings import Figure
from harness.schema.user_cache import cache_folders, is_own
from harness.version import PACKAGE

MOST_KEPT = 200
"""Drawings, of about 200 kB each; those that were not used for longest go first."""

_LIBRARIES = ("matplotlib", "numpy", "pandas")


def cache_folder() -> Path:
    """Return where the drawings are: below $XDG_CACHE_HOME or ~/.cache."""
    return next(cache_folders()) / "figures"


def cached_picture(figure: Figure) -> Picture:
    """Return ``figure`` drawn: from the cache if it was drawn before, else drawn and kept."""
    name = _name(figure)
    if name is None:
        return picture_of(figure, drawing(figure))
    file = cache_folder() / name
    known = _read(file)
    if known is None:
        known = drawing(figure)
        with contextlib.suppress(OSError):  # no room, or no right to write: drawn each time
            _write(file, known)
    return picture_of(figure, known)


def forget_unused() -> None:
    """Remove the drawings that were not used for longest, all but ``MOST_KEPT``."""
    with contextlib.suppress(OSError):
        files = sorted(cache_folder().iterdir(), key=lambda file: file.stat().st_mtime)
        for file in files[:-MOST_KEPT]:
            file.unlink(missing_ok=True)


def _name(figure: Figure) -> str | None:
    """Return the hash of all that a drawing depends on; None where its code has no name or file."""
    try:
        whole = pickle.dumps(figure)
    except (pickle.PicklingError, AttributeError, TypeError):  # a function within a function
        return None
    own = [_package(code) for code in (figure.draw, figure.tips) if code is not None]
    hashes = [_code_of(package) for package in (PACKAGE.name, *own)]
    if None in hashes:
        return None
    return hashlib.sha256(b"".join([*filter(None, hashes), whole])).hexdigest()


def _package(code: Callable[..., object]) -> str:
    """Return the outermost package of a function."""
    while isinstance(code, functools.partial):
        code = code.func
    return code.__module__.partition(".")[0]


@functools.cache
def _code_of(package: str) -> bytes | None:
    """Return a hash of the package's Python files and of the versions that they run with."""
    file = getattr(sys.modules.get(package), "__file__", None)
    if file is None:
        return None
    found = hashlib.sha256(sys.version.encode())
    for library in _LIBRARIES:
        found.update(importlib.metadata.version(library).encode())
    path = Path(file)
    for source in sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]:
        found.update(source.read_bytes())
    return found.digest()


def _read(file: Path) -> Drawing | None:
    """Return the drawing in ``file`` and mark it as used; None where there is none of ours."""
    try:
        if not is_own(file):  # a drawing is markup, which a browser runs
            return None
        os.utime(file)
        found = msgspec.msgpack.decode(file.read_bytes(), type=Drawing)
    except (OSError, msgspec.MsgspecError):
        return None
    return found if _is_drawing(found) else None


_ELEMENTS = (
    "svg|metadata|rdf:RDF|cc:Work|dc:type|dc:title|dc:format|defs|style|clipPath|pattern|g|path|use|"
    "rect|image|text|tspan|title"
)
_FOREIGN = re.compile(
    rf"<(?!/?(?:{_ELEMENTS})[\s/>]|\?xml\s|!DOCTYPE\s|!--)"  # any other element
    r"|[\s/\"']on\w+\s*="
    r"|href\s*=(?!\"#|\"data:image/png;base64,)"
    r"|url\((?!#)|@import|javascript:",
    re.IGNORECASE,
)
"""What matplotlib does not write, and a page or a viewer of SVG would load or run."""


def _is_drawing(found: Drawing) -> bool:
    return found.png.startswith(b"\x89PNG") and all(
        "<svg" in svg and svg.rstrip().endswith("</svg>") and _FOREIGN.search(svg) is None
        for svg in (found.svg, found.narrow_svg)
    )


def _write(file: Path, drawn: Drawing) -> None:
    """Write whole files only, for this user alone: other processes read here too."""
    file.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.parent.mkdir(mode=0o700, exist_ok=True)
    part = file.with_suffix(f".{os.getpid()}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(msgspec.msgpack.encode(drawn))
    part.replace(file)
