"""Compares the GPU tensors and host bytes that the script's variables keep after two steps.

If a variable keeps more objects than some steps earlier, the variable causes the growth. The search
enters only plain containers, modules and the script's own objects, without calling their code.
"""

import contextlib
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from inspect import CO_OPTIMIZED
from types import FrameType, FunctionType
from typing import Any

import torch

from harness.dry_runs.own_code import is_own
from harness.schema.units import format_bytes

_MOST_THINGS = 200_000
_LINES, _FEW = 3, 4
_LEAST_BYTES, _SHARE = 64 << 10, 10


@dataclass
class Held:
    """For each variable, the number of GPU tensors, tensors with a graph, and autograd nodes.

    ``keyed`` contains variables that are dicts with integer or tuple keys. For arrays, tensors,
    texts and numbers on the host, ``host`` contains bytes and ``things`` contains object counts.
    """

    step: int
    tensors: Counter[str] = field(default_factory=Counter)
    with_graph: Counter[str] = field(default_factory=Counter)
    nodes: Counter[str] = field(default_factory=Counter)
    keyed: set[str] = field(default_factory=set)
    hooks: int = 0
    host: Counter[str] = field(default_factory=Counter)
    things: Counter[str] = field(default_factory=Counter)

    def count_on_host(self, name: str, size: int) -> None:
        """Add a host object of ``size`` bytes to the counts of a variable."""
        self.host[name] += size
        self.things[name] += 1


def held_by_names(step: int) -> Held:
    """For each variable of the script, return how many objects the variable keeps."""
    held = Held(step)
    roots: dict[str, list[Any]] = {}
    waiting = deque(_without_plain(_names(), held))
    seen: set[int] = set()
    while waiting and len(seen) < _MOST_THINGS:
        name, thing = waiting.popleft()
        kind = type(thing)  # isinstance would have lazy objects load themselves
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        with contextlib.suppress(Exception):  # an object that does not let itself be looked at
            if kind.__module__ == "numpy" or (issubclass(kind, torch.Tensor) and thing.is_cpu):
                held.count_on_host(name, int(thing.nbytes))
            elif not issubclass(kind, torch.Tensor):
                waiting.extend(_without_plain(_inside(name, thing, held), held))
            elif thing.is_cuda:
                held.tensors[name] += 1
                if thing.grad_fn is not None:
                    held.with_graph[name] += 1
                    roots.setdefault(name, []).append(thing.grad_fn)
    for name, functions in roots.items():
        if len(functions) <= _FEW:
            held.nodes[name] = _graph_nodes(functions)
    return held


def _without_plain(things: Iterable[tuple[str, Any]], held: Held) -> Iterator[tuple[str, Any]]:
    """Yield objects that may contain other objects; count texts and numbers immediately."""
    for name, thing in things:
        if issubclass(type(thing), (str, bytes, int, float)):
            held.count_on_host(name, sys.getsizeof(thing))
        else:
            yield name, thing


def causes(then: Held, now: Held) -> Iterator[str]:
    """Yield a sentence for each cause of growth: more tensors, hooks or graph nodes."""
    steps = f"{now.step - then.step} steps before"
    for name, count in (now.tensors - then.tensors).most_common(_LINES):
        holds = (
            f"{name} holds {now.tensors[name]:,} tensors of the GPU, {count:,} more than {steps}"
        )
        if now.with_graph[name] > then.with_graph[name]:
            yield f"{holds}, with the graphs that made them: keep .item() or .detach() of each"
        elif name in now.keyed:
            yield f"{holds}, by a key such as a shape: bound this cache"
        else:
            yield f"{holds}: move them to the host, or reduce them"
    if now.hooks - then.hooks >= now.step - then.step:
        yield (
            f"modules have {now.hooks:,} hooks, {now.hooks - then.hooks:,} more than {steps}:"
            " remove each, or register once"
        )
    more = Counter({name: now.nodes[name] - then.nodes[name] for name in then.nodes})
    names = [name for name, count in more.most_common(_LINES) if count >= now.step - then.step]
    if names:
        yield (
            f"the graph of {' and of '.join(names)} has {now.nodes[names[0]]:,} nodes,"
            f" {more[names[0]]:,} more than {steps}: it reaches back over all steps; use .item() or"
            " .detach()"
        )


def host_causes(then: Held, now: Held) -> Iterator[str]:
    """Yield a sentence for each variable that keeps more host memory than before."""
    for name, size in _more_on_host(then, now).items():
        yield (
            f"{name} holds {format_bytes(now.host[name])} of the host, {format_bytes(size)}"
            f" more than {now.step - then.step} steps before"
        )


def larger_on_host(then: Held, now: Held) -> list[str]:
    """Return the variables whose objects became larger, or none if a variable has more objects."""
    names = list(_more_on_host(then, now))
    return [] if any(now.things[name] > then.things[name] for name in names) else names


def _more_on_host(then: Held, now: Held) -> dict[str, int]:
    more = now.host - then.host
    least = max(_LEAST_BYTES, more.total() // _SHARE)
    return {name: size for name, size in more.most_common(_LINES) if size >= least}


def _names() -> Iterator[tuple[str, Any]]:
    """Yield the variables of the script's running functions and of the script's modules."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not is_own(frame.f_code.co_filename) and frame.f_code.co_flags & CO_OPTIMIZED:
            variables = frame.f_locals
            yield from list(variables.items())
            if sys.version_info < (3, 13):
                variables.clear()  # a copy, which would keep tensors alive
        frame = frame.f_back
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and "site-packages" not in file and not is_own(file):
            yield from list(vars(module).items())


def _inside(name: str, thing: Any, held: Held) -> Iterable[tuple[str, Any]]:
    """Return the items of a container or the attributes of an object, each with its name."""
    kind = type(thing)
    if issubclass(kind, dict):
        if thing and all(isinstance(key, (int, tuple)) for key in thing):
            held.keyed.add(name)
        return ((name, value) for value in list(dict.values(thing)))
    if issubclass(kind, (list, tuple, set, frozenset, deque)):
        return ((name, value) for value in list(thing))
    if kind is FunctionType:
        cells = (cell.cell_contents for cell in thing.__closure__ or ())
        return [(f"a variable of {thing.__qualname__}", value) for value in cells]
    within = dict(vars(thing))
    if issubclass(kind, torch.nn.Module):
        held.hooks += sum(
            len(value) for key, value in within.items() if key.endswith("_hooks") and value
        )
        own = [(name, value) for value in within.pop("_parameters").values()]
        within = {**within.pop("_modules"), **within}
        return [*own, *((f"{name}.{key}", value) for key, value in within.items())]
    if kind.__module__.partition(".")[0] in ("torch", "builtins", "harness"):
        return ()
    return ((f"{name}.{key}", value) for key, value in within.items())


def _graph_nodes(functions: list[Any]) -> int:
    """Return the number of autograd nodes that are reachable from ``functions``."""
    seen: set[Any] = set()
    waiting = list(functions)
    while waiting and len(seen) < _MOST_THINGS:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting.extend(function for function, _ in node.next_functions)
    return len(seen)
