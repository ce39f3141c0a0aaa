"""Fractions that a script reads from the GPU and turns into integers, from which it makes sizes."""

import ast
import functools
import linecache
from collections.abc import Iterator

_ROUNDING = {"int", "round", "ceil", "floor", "trunc", "range", "divmod"}
_ASSIGNS = ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr


@functools.cache
def becomes_integer(file: str, line: int) -> bool:
    """Return whether the source rounds what it reads on a line, there or by an assigned name."""
    try:
        nodes = list(ast.walk(ast.parse("".join(linecache.getlines(file)))))
    except (SyntaxError, ValueError):
        return False
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, _ASSIGNS) and _covers(node, line):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {name for target in targets for name in _names(target, ast.Store)}
    rounded = [node for node in nodes if isinstance(node, ast.expr) and _rounds(node)]
    return any(_covers(node, line) or not names.isdisjoint(_names(node)) for node in rounded)


def _rounds(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        name = getattr(node.func, "id", "") or getattr(node.func, "attr", "")
        return name in _ROUNDING and not (name == "round" and len(node.args) > 1)
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv)


def _names(node: ast.AST, context: type[ast.expr_context] = ast.Load) -> Iterator[str]:
    """Yield what is read or assigned in a node: ``n`` of ``n``, ``.n`` of ``self.n``."""
    for one in ast.walk(node):
        if isinstance(one, ast.Name | ast.Attribute) and isinstance(one.ctx, context):
            yield one.id if isinstance(one, ast.Name) else f".{one.attr}"


def _covers(node: ast.expr | ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)
