"""Prints the lowest versions that pyproject.toml admits, of all but torch: one a line, for pip."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
for requirement in [*project["dependencies"], *extras["test"], *extras["cluster"]]:
    found = re.fullmatch(r"([\w-]+)>=([\d.]+)", requirement)
    if found is None:
        raise SystemExit(f"{requirement!r}: no lowest version is stated")
    name, version = found.groups()
    if name not in ("torch", "torchvision"):
        print(f"{name}=={version}")
