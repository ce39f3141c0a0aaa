"""The order of the packages, read from the code's own imports (docs/architecture.md)."""

import ast
import functools
import itertools
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "harness"

ORDER = (
    "schema", "plots", "training", "instruments", "prediction", "processes", "measurement",
    "thresholds", "dry_runs", "snapshots", "planning", "sweeps", "budgets",
    "analysis", "reporting", "cli",
)  # fmt: skip
"""Each package imports only packages that are listed before it, and itself."""

NO_STEP = ("torch", "harness.training", "harness.instruments")
FORBIDDEN = {
    "schema": ["torch", "matplotlib", "rich"],
    "instruments": [
        *(f"harness.{name}" for name in ("training.models", "training.training_step")),
        "harness.schema.workload",
    ],
    "prediction/mlp": [*NO_STEP, "harness.prediction.estimate"],
    "prediction/gpu": [*NO_STEP, "harness.prediction.estimate", "harness.prediction.mlp"],
    "processes": ["matplotlib", "scipy", "statsmodels", "pandas"],
    "measurement": ["matplotlib", "scipy", "statsmodels", "pandas"],
    "training/image_files.py": ["torch"],
    "measurement/doctor.py": ["torch", "torchvision", "harness.training.data"],
    "processes/launcher.py": ["torch"],
    "processes/start_child.py": ["torch"],
    "thresholds": ["torch"],
    "thresholds/search.py": ["subprocess", "multiprocessing", "harness.processes"],
    "sweeps": ["torch", "matplotlib", "pandas"],
    "planning/ask_step.py": ["torch"],
    "planning/ask_worker.py": ["torch"],
    "planning/plan_search.py": ["torch"],
    "planning/plan_result.py": ["torch"],
    "planning/step_changes.py": ["torch"],
    "snapshots": ["torch", "pickle.load", "pickle.loads"],
    "budgets/pytest_plugin.py": ["torch"],
    "budgets/step_memory.py": ["torch"],
    "analysis": ["torch", "matplotlib", "harness.measurement", "harness.processes"],
    "reporting": ["torch", "scipy", "statsmodels"],
}
"""What a package or file must not import in addition, also inside functions."""


@functools.cache
def imports(path: Path) -> set[str]:
    """Return the modules that ``path`` imports; blocks for type checkers are left out."""
    result: set[str] = set()
    stack: list[ast.AST] = [ast.parse(path.read_text())]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            result |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            result |= {f"{node.module}.{alias.name}" for alias in node.names}
        stack += ast.iter_child_nodes(node)
    return result


def names_in_strings(text: str) -> set[str]:
    """Return the modules that strings name, as what is imported or started later; no docstrings."""
    nodes = [*ast.walk(ast.parse(text))]
    described = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    strings = [n for n in nodes if isinstance(n, ast.Constant) and id(n) not in described]
    values = [node.value for node in strings if isinstance(node.value, str)]
    return {value.partition(":")[0] for value in values if value.startswith("harness.")}


def is_under(name: str, parent: str) -> bool:
    return name == parent or name.startswith(parent + ".")


def module_graph() -> dict[str, set[str]]:
    """Return which module of the harness imports which, packages' own files included."""
    names = {
        ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(
            ".__init__"
        ): path
        for path in ROOT.rglob("*.py")
    }

    def module(name: str) -> str | None:
        while name and name not in names:
            name = name.rpartition(".")[0]
        return name or None

    return {
        name: {result for used in imports(path) if (result := module(used)) and result != name}
        for name, path in names.items()
    }


ENTRANCES = {"harness", "harness.cli.app", "harness.cli.entry", "harness.__main__"}
"""Modules that know every command; what they import is not followed."""
BENCH = ("prediction.mlp", "measurement", "thresholds", "sweeps", "analysis", "reporting")
"""The wing of a step that really runs."""
PRETENDED = ("prediction.estimate", "dry_runs", "snapshots", "budgets")
"""The wing of the pretended GPU. ``planning``, the command line and experiments use both; the
other packages are their base."""
TO_PRETENDED_GPU = {"harness.planning.pretended_workers"}
DOORS = {
    "measure": TO_PRETENDED_GPU,
    "sweep": TO_PRETENDED_GPU,
    "explain": {"harness.dry_runs.allocator_runs"},
    "predict": {"harness.prediction.mlp.predict_workload"},
}
"""The door of a command to the other wing, which is not followed: to the pretended GPU, or, from
there, to an MLP's closed forms."""
REACHED = {
    "dry_run": (19_100, 13_000), "explain": (6_755, 6_500), "predict": (19_500, 15_000),
    "measure": (13_515, 9_500), "sweep": (15_410, 15_000), "report": (8_790, 6_000),
}  # fmt: skip
"""Lines that a command may reach through imports, lazy ones and strings included: the limit, which
is lowered when a command reaches less, and the target."""


def all_modules() -> dict[str, tuple[Path, int]]:
    """Return the file of each module, and its lines."""
    return {
        ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"):
            (path, len(path.read_text().splitlines()))
        for path in ROOT.rglob("*.py")
    }  # fmt: skip


def reached_by(command: str) -> int:
    """Return the lines of all modules that the file of a command reaches."""
    lines = all_modules()
    closed = ENTRANCES | DOORS.get(command, set())
    seen, left = set[str](), [f"harness.cli.{command}_command"]
    while left:
        name = left.pop()
        if name in lines and name not in seen | closed:
            seen.add(name)
            path, _ = lines[name]
            left += named_in(path)
    return sum(lines[name][1] for name in seen)


@functools.cache
def named_in(path: Path) -> set[str]:
    """Return what a file imports, with the packages that it comes from, or names in a string."""
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value.partition(":")[0])
    return found


@pytest.mark.parametrize("command", REACHED)
def test_a_command_reaches_no_more_lines_than_it_may(command: str) -> None:
    most, _ = REACHED[command]
    lines = reached_by(command)
    assert most - 500 < lines <= most, f"{command} reaches {lines:,} lines; the limit is {most:,}"


def test_a_string_that_names_a_module_is_seen() -> None:
    text = '"""harness.cli"""\nload("harness.plots.public_objects:plot", "plain")'
    assert names_in_strings(text) == {"harness.plots.public_objects"}


def test_packages_have_an_order_and_files_and_classes_names_of_their_own() -> None:
    packages = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    assert packages <= set(ORDER)
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "__main__.py", "version.py"}
    names = Counter(path.name for path in ROOT.rglob("*.py") if path.name != "__init__.py")
    assert [name for name, count in names.items() if count > 1] == []
    trees = [ast.parse(path.read_text()) for path in ROOT.rglob("*.py")]
    kinds = Counter(n.name for tree in trees for n in tree.body if isinstance(n, ast.ClassDef))
    assert [name for name, count in kinds.items() if count > 1 and name[0] != "_"] == []


@pytest.mark.parametrize(("wing", "other"), [(BENCH, PRETENDED), (PRETENDED, BENCH)])
def test_no_wing_imports_the_other(wing: tuple[str, ...], other: tuple[str, ...]) -> None:
    arrows = [
        f"{name} imports {used}"
        for name, (path, _) in all_modules().items()
        for used in named_in(path)
        if any(is_under(name, f"harness.{package}") for package in wing)
        and any(is_under(used, f"harness.{package}") for package in other)
    ]
    assert arrows == []


@pytest.mark.parametrize("package", ORDER)
def test_a_package_imports_only_what_is_listed_before_it(package: str) -> None:
    later = ORDER[ORDER.index(package) + 1 :]
    upward = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for name in imports(path) | names_in_strings(path.read_text())
        for other in later
        if is_under(name, f"harness.{other}")
    ]
    assert upward == []


def test_no_module_imports_itself_through_others() -> None:
    graph = module_graph()
    done: set[str] = set()

    def cycle_from(name: str, path: tuple[str, ...]) -> tuple[str, ...]:
        if name in path:
            return (*path[path.index(name) :], name)
        if name in done:
            return ()
        for used in sorted(graph[name]):
            if result := cycle_from(used, (*path, name)):
                return result
        done.add(name)
        return ()

    assert [cycle for name in sorted(graph) if (cycle := cycle_from(name, ()))] == []


@pytest.mark.parametrize("place", FORBIDDEN)
def test_no_package_imports_what_it_must_not(place: str) -> None:
    root = ROOT / place
    files = [root] if root.suffix else sorted(root.rglob("*.py"))
    assert files, "a place that does not exist keeps no rule"
    broken = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, forbidden in itertools.product(files, FORBIDDEN[place])
        for name in imports(path)
        if is_under(name, forbidden)
    ]
    assert broken == []


def test_only_the_command_line_ends_the_process() -> None:
    enders = {
        path.relative_to(ROOT).parts[0]
        for path in sorted(ROOT.rglob("*.py"))
        if "sys.exit(" in path.read_text().partition('if __name__ == "__main__":')[0]
    }
    assert enders <= {"cli"}
