"""The walls between the rooms, read from the code's own imports."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "harness"

# room -> what it must not import, at module level or inside functions (design, "Rooms")
WALLS = {
    "workload.py": ["torch", "harness.record", "harness.execution"],
    "record.py": ["torch", "pandas", "harness.execution", "harness.analysis"],
    "units.py": ["harness"],
    "events.py": ["torch", "harness.execution", "harness.instruments"],
    "models.py": ["harness.instruments", "harness.execution"],
    "data.py": ["harness.instruments", "harness.execution"],
    "training.py": ["harness.instruments", "harness.execution"],
    "instruments": ["harness.models", "harness.workload", "harness.training", "harness.execution"],
    "prediction": ["torch", "harness.instruments", "harness.execution", "harness.analysis"],
    "execution/launcher.py": ["torch"],
    "execution/forkserver.py": ["pandas", "matplotlib"],
    "execution/sweep.py": ["torch", "pandas", "matplotlib", "harness.analysis"],
    "execution": ["matplotlib", "statsmodels", "harness.analysis", "harness.reporting"],
    "analysis": ["torch", "matplotlib", "harness.execution", "harness.instruments"],
    "reporting": ["torch", "statsmodels", "harness.instruments"],
    "replay": ["torch", "pickle.load", "pickle.loads", "harness.instruments", "harness.execution"],
    "thresholds.py": ["torch", "harness.execution"],
    "search.py": ["torch", "subprocess", "multiprocessing", "harness.execution"],
}  # fmt: skip


def imports(path: Path) -> set[str]:
    """Return the modules that ``path`` imports, type-checking blocks left out."""
    found: set[str] = set()
    stack: list[ast.AST] = [ast.parse(path.read_text())]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        stack += ast.iter_child_nodes(node)
    return found


def is_under(name: str, forbidden: str) -> bool:
    return name == forbidden or name.startswith(forbidden + ".")


@pytest.mark.parametrize("room", WALLS)
def test_no_room_reaches_through_a_wall(room: str) -> None:
    place = ROOT / room
    files = [place] if place.suffix else sorted(place.rglob("*.py"))
    assert files, "a room that is not there keeps no wall"
    broken = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files
        for name in imports(file)
        for forbidden in WALLS[room]
        if is_under(name, forbidden)
    ]
    assert broken == []


def test_only_the_cli_ends_the_process() -> None:
    enders = [
        str(file.relative_to(ROOT))
        for file in sorted(ROOT.rglob("*.py"))
        if "sys.exit(" in file.read_text().partition('if __name__ == "__main__":')[0]
    ]
    assert enders == ["cli.py"]
