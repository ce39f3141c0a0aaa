"""Puts a report's files in place of the earlier report's, and leaves every other file alone.

All are written next to their places first. If one cannot be written, the earlier report stands.
"""

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from harness.schema.errors import HarnessError

_LINK = re.compile(r"\]\((figures|tables)/([^/()\n]+)\.(?:png|csv)\)")


class ReportError(HarnessError):
    """The report cannot be written into its folder; the earlier one stands."""


def replace_files(folder: Path, files: Mapping[str, bytes], earlier: set[str]) -> None:
    """Write ``files`` by their names in ``folder``; remove those of ``earlier`` not among them."""
    staged: dict[Path, Path] = {}
    replaced: dict[Path, bytes | None] = {}
    path = folder
    try:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)  # fails for a link that leads nowhere
            path = Path(os.path.realpath(path))  # through links, of folders too
            if path.is_dir():
                raise IsADirectoryError(0, "is a folder")
            staged[path] = path.with_name(f".{path.name}.new")
            staged[path].write_bytes(content)
        for path, new in staged.items():
            replaced[path] = path.read_bytes() if path.exists() else None
            new.replace(path)
    except OSError as error:  # also half-way through the renames, which a network file system fails
        for place, before in replaced.items():
            with contextlib.suppress(OSError):
                if before is None:
                    place.unlink(missing_ok=True)
                else:
                    place.write_bytes(before)
        why = error.strerror or str(error)
        raise ReportError(f"{path}: {why}; the report was not written") from None
    finally:
        for new in staged.values():
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
    for name in earlier - set(files):
        with contextlib.suppress(OSError):
            (folder / name).unlink()


def files_of_report(folder: Path) -> set[str]:
    """Return the figures' and tables' files that the report in ``folder`` wrote.

    Its ``report.md`` links to each. A link of which not all files are there is not the report's.
    """
    try:
        text = (folder / "report.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return set()
    names: set[str] = set()
    for kind, stem in _LINK.findall(text):
        suffixes = (".svg", ".png", ".csv") if kind == "figures" else (".csv", ".md")
        files = [f"{kind}/{stem}{suffix}" for suffix in suffixes]
        if all((folder / file).is_file() for file in files):
            names.update(files)
    return names
