"""A script that does random things to files, and prints what it sees at the end.

file_operations.py FOLDER SEED OPERATIONS
"""

# Scripts call these functions, each in its own way:
# ruff: noqa: PTH101, PTH103, PTH104, PTH105, PTH107, PTH112, PTH114, PTH115, PTH116, PTH118, PTH119, PTH120
# ruff: noqa: PTH123, PTH202, PTH211

import contextlib
import json
import os
import random
import shutil
import sys
from pathlib import Path

NAMES = ("a", "b", "c", "d/a", "d/b", "d/e/a", "f/a", "f/b")


def view() -> dict[str, str]:
    """Return all files, links and folders below this one, as listings and reads show them."""
    seen = {}
    for folder, folders, files in os.walk("."):
        for name in folders + files:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                seen[path] = f"link to {os.readlink(path)}"
            elif os.path.isdir(path):
                seen[path] = "folder"
            else:
                assert os.stat(path).st_size == os.path.getsize(path)
                seen[path] = Path(path).read_text()
    return seen


def change(chance: random.Random, number: int) -> None:
    """Do one thing."""
    name, other = chance.choice(NAMES), chance.choice(NAMES)
    kind = chance.randrange(15)
    if kind in (0, 1):
        Path(name).write_text(f"new {number}")
    elif kind == 2:
        os.remove(name)
    elif kind in (3, 4):
        os.replace(name, other)
    elif kind == 5:
        shutil.rmtree(os.path.dirname(name) or "d/e")
    elif kind == 6:
        os.makedirs(os.path.dirname(name) or "f/g")
    elif kind == 7:
        shutil.copy(name, other)
    elif kind == 8:
        with open(name, "x") as file:
            file.write(f"exclusive {number}")
    elif kind == 9:
        os.truncate(name, 0)
    elif kind == 10:
        Path(f"{name}.part").write_text(f"part {number}")
        os.rename(f"{name}.part", name)
    elif kind in (11, 12):
        with open(name, chance.choice(["a", "r+", "a+"])) as file:
            file.write(f"changed {number}")
    elif kind == 13:
        os.truncate(name, 3)
        os.chmod(name, 0o600)
    else:
        os.symlink(os.path.basename(other), name)


def main() -> None:
    """Change files; print the view, and which operations were refused."""
    os.chdir(sys.argv[1])
    chance = random.Random(sys.argv[2])
    refused = []
    for number in range(int(sys.argv[3])):
        try:
            change(chance, number)
        except OSError as error:
            refused.append([number, error.errno])
    with contextlib.suppress(OSError):
        print(json.dumps({"view": view(), "refused": refused}))


if __name__ == "__main__":
    main()
