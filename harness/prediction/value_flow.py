"""The way of a value that a script reads, in its source: is anything decided by it?

A loss that is printed or averaged decides nothing; what is compared, counted, used as an index or
given to a function of another file may. A value is followed through names, attributes, containers
and functions of its file, and through the callers on the stack.
"""

import ast
import dis
import functools
import linecache
import re
from collections.abc import Iterator, Sequence
from types import CodeType, FrameType

Stack = tuple[tuple[CodeType, int], ...]
"""Functions' code and the instructions that run in them, the innermost first."""
_Use = tuple["_Source", ast.AST]
MOST_FRAMES = 12

_SAME = (
    *(ast.JoinedStr, ast.FormattedValue, ast.List, ast.Tuple, ast.Starred, ast.keyword, ast.Await),
    *(ast.ListComp, ast.GeneratorExp, ast.Dict, ast.DictComp, ast.IfExp, ast.NamedExpr, ast.BinOp),
    ast.UnaryOp,
)
"""Expressions that hold what is in them, or compute with it."""
_ENDS = (ast.Expr, ast.Raise, ast.Delete)
_ASSIGNS = ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr
_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
_PRINTS = re.compile(
    "print|log|info|debug|warn|error|scalar|set_postfix|set_description|report|track"
)
_STORES = {"append", "extend", "insert", "update", "appendleft", "put", "setdefault", "copy_"}
_CHANGES = re.compile(
    "(_foreach_)?(add|sub|mul|div|pow|lerp|addcmul|addcdiv|clamp|clamp_min|clamp_max)_"
)
"""Operators that change elements of a tensor, and no size, by a fraction."""
_TESTS = "POP_JUMP", "JUMP_IF", "TO_BOOL", "UNARY_NOT"
_SHAPES = {"shape", "dtype", "ndim", "device", "size", "nbytes", "is_cuda"}
_HARMLESS = {"len", "isinstance", "type", "id", "isnan", "isinf", "isfinite", "keys", "hasattr"}
_HARMLESS |= _SHAPES | {"numel", "element_size", "dim", "data_ptr", "is_contiguous"}
_ERRORS = {f"{module}.{name}" for module in ("math", "cmath") for name in ("log", "log10", "log2")}
"""Functions that do not take a zero."""
_LOOKS_UP = {"get", "pop", "index", "count"}
_SAME_METHODS = re.compile(
    "item|tolist|cpu|numpy|float|double|half|bfloat16|detach|clone|copy|deepcopy|mean|sum|min|max|abs"
    "|neg|exp|log|sqrt|square|pow|fmean|average|std|var|norm|reshape|view|flatten|squeeze|unsqueeze"
    "|stack|cat|concatenate|join|array|asarray|tensor|as_tensor|from_numpy|list|tuple|dict|zip"
    "|enumerate|reversed|get|values|items|pop|str|repr|format|strip|__format__|__float__"
)


_BEFORE_PYTORCH = (
    "/dry_runs/left_out_values.py",
    "/dry_runs/after_import.py",
    "/estimate/meta_gpu.py",
    "/estimate/gpu_recorder.py",
    "/torch/_compile.py",
    "/torch/_dynamo/eval_frame.py",
)


def stack_of(frame: FrameType | None) -> Stack:
    """Return where a frame and its callers are, without what stands before PyTorch's functions."""
    stack: list[tuple[CodeType, int]] = []
    while frame is not None and len(stack) < MOST_FRAMES:
        if not frame.f_code.co_filename.endswith(_BEFORE_PYTORCH):
            stack.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(stack)


def prints(code: CodeType) -> bool:
    """Return whether it is PyTorch's code that makes a tensor's text."""
    return code.co_name == "__repr__" or code.co_filename.endswith("/torch/_tensor_str.py")


@functools.lru_cache(maxsize=4096)
def decides(stack: Stack, *, fraction: bool = False) -> bool:
    """Return whether a value that a function reads may decide anything; True if nobody knows.

    Elements of a tensor that an unknown fraction changes are unknown (``values.cpp``).
    """
    first = next((i for i, (code, _) in enumerate(stack) if not prints(code)), 0)
    todo, seen = _read_in(stack, first), set[int]()
    while todo:
        source, node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        parent = source.parents.get(node)
        uses: list[_Use] | None
        if isinstance(parent, ast.Return | ast.Lambda | ast.Yield):
            uses = _returned(source, parent, stack)
        elif fraction and isinstance(parent, ast.Call) and _CHANGES.fullmatch(_name(parent.func)):
            uses = []
        else:
            uses = _of(source, source.uses(node))
        if uses is None:
            return True
        todo += uses
    return todo is None


def _of(source: "_Source", nodes: list[ast.AST] | None) -> list[_Use] | None:
    return None if nodes is None else [(source, node) for node in nodes]


def _found(code: CodeType, instruction: int) -> _Use | None:
    source = _source(code.co_filename)
    node = source.at(code, instruction) if source else None
    return (source, node) if source and node else None


def _read_in(stack: Stack, number: int) -> list[_Use] | None:
    """Return what the frame of that number reads; None where nobody knows."""
    found = _found(*stack[number]) if number < len(stack) else None
    if found is None or isinstance(found[1], ast.Subscript | ast.For | ast.comprehension):
        return None  # an index, or a loop over it, too
    source, node = found
    if number or not isinstance(node, ast.Call) or _name(node.func) == "to":
        return [found]  # the value is the expression's
    return _of(source, source.called(node, node.func))


def _returned(source: "_Source", node: ast.AST, stack: Stack) -> list[_Use] | None:
    """Return the calls of the function that returns a value; None if there is none."""
    function = node if isinstance(node, ast.Lambda) else source.function_of(node)
    name = getattr(function, "name", "<lambda>")
    calls: list[_Use] = [(source, call) for call in source.calls.get(name, ())]
    for number, (code, _) in enumerate(stack[:-1], 1):
        if code.co_name == name and code.co_filename == source.file:
            read = _read_in(stack, number)
            return None if read is None else calls + read
    return calls or None


class _Source:
    """A file's syntax tree: what is in what, what is read by name, what is called."""

    def __init__(self, file: str, tree: ast.Module) -> None:
        self.file = file
        self.tree = tree
        self.parents: dict[ast.AST, ast.AST] = {}
        self.calls: dict[str, list[ast.Call]] = {}
        self._defined: dict[str, list[_FUNCTIONS]] = {}
        self._read: dict[str, list[ast.AST]] = {}
        self._places: dict[tuple[int | None, ...], ast.AST] = {}
        for node in ast.walk(tree):
            self.parents.update(dict.fromkeys(ast.iter_child_nodes(node), node))
            if isinstance(node, ast.expr):
                place = node.lineno, node.end_lineno, node.col_offset, node.end_col_offset
                self._places[place] = node
            if isinstance(node, ast.Call):
                self.calls.setdefault(_name(node.func), []).append(node)
            elif isinstance(node, _FUNCTIONS):
                self._defined.setdefault(node.name, []).append(node)
            elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
                self._read.setdefault(_key(node), []).append(node)

    def at(self, code: CodeType, instruction: int) -> ast.AST | None:
        """Return the expression that an instruction is of, or that a jump tests."""
        places: list[object] = [(), ()]
        for one in dis.get_instructions(code):
            if one.offset > instruction:  # it may point behind the one that runs
                break
            tests = one.opname.startswith(_TESTS)
            places.append(places[-1] if tests else one.positions)
        return self._places.get(tuple(places[-1] or ()))  # type: ignore[arg-type]

    def function_of(self, node: ast.AST) -> ast.AST:
        """Return the function that a node is in, or the module."""
        while not isinstance(node, _FUNCTIONS | ast.Module):
            node = self.parents[node]
        return node

    def uses(self, node: ast.AST) -> list[ast.AST] | None:
        """Return what goes on with an expression's value; None if it may decide something."""
        parent = self.parents.get(node)
        if isinstance(parent, _ASSIGNS) and node is parent.value:
            if isinstance(getattr(parent, "op", None), ast.Div | ast.FloorDiv | ast.Mod):
                return None
            targets = parent.targets if isinstance(parent, ast.Assign) else [parent.target]
            onward = [parent] if isinstance(parent, ast.NamedExpr) else []
            return [*onward, *(use for target in targets for use in self._stored(target))]
        if isinstance(parent, ast.Attribute):
            call = self.parents.get(parent)
            if isinstance(call, ast.Call) and call.func is parent:
                return self.called(call, parent)
            return [] if parent.attr in _SHAPES else [parent]
        if isinstance(parent, ast.Call):
            return self.called(parent, node)
        if isinstance(parent, ast.For | ast.comprehension) and node is parent.iter:
            return self._stored(parent.target)
        if isinstance(parent, ast.Subscript) and node is parent.value:
            return [parent] if isinstance(parent.ctx, ast.Load) else []
        if isinstance(parent, _ENDS):
            return []
        divides = isinstance(getattr(parent, "op", None), ast.Div)
        if divides and node is getattr(parent, "right", None) and not self._is_positive(node):
            return None  # by zero is an error
        return [parent] if isinstance(parent, _SAME) and _keeps(parent, node) else _compared(parent)

    def called(self, call: ast.Call, node: ast.AST) -> list[ast.AST] | None:
        """Return what goes on with a value that a function is called with, or a method of it."""
        name = _name(call.func)
        defined = [
            one
            for one in self._defined.get(name, ())  # subprocess.run is no function of the file
            if isinstance(call.func, ast.Name) or isinstance(self.parents[one], ast.ClassDef)
        ]
        if defined and node is not call.func:
            return [use for one in defined for use in self._given(one, call, node)]
        if name in _HARMLESS:
            return []
        if ast.unparse(call.func) in _ERRORS:
            return None
        if _PRINTS.search(name):
            return [] if isinstance(self.parents[call], ast.Expr) else [call]
        if name in _STORES:
            of = call.func if node is not call.func or name == "copy_" else None
            return [*(self._stored(of.value) if isinstance(of, ast.Attribute) else ()), call]
        goes_on = _SAME_METHODS.fullmatch(name) or (name == "round" and len(call.args) > 1)
        to_gpu = any(one.arg == "device" for one in call.keywords)
        looked_up = name in _LOOKS_UP and node is not call.func
        return [call] if goes_on and not to_gpu and not looked_up else None

    def _is_positive(self, node: ast.AST) -> bool:
        """Return whether an expression is ``max(1, x)``, or a name that is nothing else."""
        if isinstance(node, ast.Name):
            bound = [
                self.parents[one]
                for one in ast.walk(self.function_of(node))
                if node.id in (getattr(one, "id", None), getattr(one, "arg", None))
                and not isinstance(getattr(one, "ctx", None), ast.Load)
            ]
            values = [isinstance(one, ast.Assign) and self._is_positive(one.value) for one in bound]
            return bool(values) and all(values)
        if not isinstance(node, ast.Call) or _name(node.func) != "max":
            return False
        constants = [one.value for one in node.args if isinstance(one, ast.Constant)]
        return any(isinstance(one, int | float) and one > 0 for one in constants)

    def _given(self, function: _FUNCTIONS, call: ast.Call, node: ast.AST) -> Iterator[ast.AST]:
        """Yield the uses of a function's parameter that a value is given for."""
        names = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
        names = names[names[:1] in (["self"], ["cls"]) :]
        if isinstance(node, ast.keyword) and node.arg:
            names = [node.arg]
        elif node in call.args and not any(isinstance(one, ast.Starred) for one in call.args):
            names = names[call.args.index(node) :][:1] or [getattr(function.args.vararg, "arg", "")]
        for name in names:
            yield from self._loads(name, function)

    def _stored(self, target: ast.AST) -> list[ast.AST]:
        """Return the reads of what is assigned to: of a name in its function, of an attribute."""
        found: list[ast.AST] = []
        for one in ast.walk(target):
            if isinstance(one, ast.Attribute):
                found += self._read.get(_key(one), ())
            elif isinstance(one, ast.Name) and (
                one is target or not isinstance(self.parents[one], ast.Attribute)
            ):
                found += self._loads(one.id, self.function_of(one))
        return found

    def _loads(self, name: str, scope: ast.AST) -> list[ast.AST]:
        if any(isinstance(n, ast.Global) and name in n.names for n in ast.walk(scope)):
            scope = self.tree
        return [one for one in self._read.get(name, ()) if self._is_in(one, scope)]

    def _is_in(self, node: ast.AST, scope: ast.AST) -> bool:
        while node is not scope and node in self.parents:
            node = self.parents[node]
        return node is scope

    def guard(self, node: ast.AST) -> tuple[bool, ast.AST | None]:
        """Return the truth of an expression that raises nothing, and what it is a guard of.

        That is a test or an assertion, or what returns the truth; None if it is no guard.
        """
        wanted, parent = True, self.parents.get(node)
        while isinstance(parent, ast.UnaryOp | ast.BoolOp | ast.Call | ast.Assign):
            if isinstance(parent, ast.Call) and _name(parent.func) != "bool":
                return wanted, None
            wanted ^= isinstance(parent, ast.UnaryOp) and isinstance(parent.op, ast.Not)
            node = parent
            if isinstance(parent, ast.Assign):
                uses = self._stored(parent.targets[0])
                node = uses[0] if len(uses) == 1 else parent
            parent = self.parents.get(node)
        if isinstance(parent, ast.If) and node is parent.test:
            if _fails(parent.body):
                return not wanted, parent
            return wanted, parent if _fails(parent.orelse) else None
        return wanted, parent if isinstance(parent, ast.Assert | ast.Return) else None


@functools.lru_cache(maxsize=4096)
def avoids_error(stack: Stack) -> bool | None:
    """Return the answer to a guard that is asked, ``if not ok: raise`` or ``assert ok``.

    None: it is no guard.
    """
    answer = True
    for frame in stack:
        if (found := _found(*frame)) is None:
            return None
        wanted, guard = found[0].guard(found[1])
        answer ^= not wanted
        if not isinstance(guard, ast.Return):
            return answer if guard else None
    return None


@functools.lru_cache(maxsize=64)
def _source(file: str) -> _Source | None:
    try:
        return _Source(file, ast.parse("".join(linecache.getlines(file))))
    except (SyntaxError, ValueError, RecursionError):
        return None


def _keeps(parent: ast.AST, node: ast.AST) -> bool:
    """Return whether an expression that holds another decides nothing by it."""
    if isinstance(parent, ast.BinOp):
        text = isinstance(parent.left, ast.Constant) and isinstance(parent.left.value, str)
        return text or not isinstance(parent.op, ast.FloorDiv | ast.Mod)
    if isinstance(parent, ast.UnaryOp):
        return not isinstance(parent.op, ast.Not)
    if isinstance(parent, ast.IfExp):
        return node is not parent.test
    if isinstance(parent, ast.Dict):
        return node in parent.values
    return node is not getattr(parent, "key", None)


def _compared(parent: ast.AST | None) -> list[ast.AST] | None:
    """Return no use of what is asked for None, or for a name that it has."""
    if not isinstance(parent, ast.Compare):
        return None
    by_name = isinstance(parent.left, ast.Constant) and isinstance(parent.left.value, str)
    harmless = (ast.Is, ast.IsNot, *((ast.In, ast.NotIn) if by_name else ()))
    return [] if all(isinstance(one, harmless) for one in parent.ops) else None


def _fails(body: Sequence[ast.stmt]) -> bool:
    """Return whether statements end with an error, or end the program."""
    last = body[-1] if body else None
    if isinstance(last, ast.Expr) and isinstance(last.value, ast.Call):
        return _name(last.value.func) in {"exit", "_exit", "quit", "abort"}
    return isinstance(last, ast.Raise)


def _name(function: ast.AST) -> str:
    return getattr(function, "id", "") or getattr(function, "attr", "")


def _key(node: ast.Name | ast.Attribute) -> str:
    return node.id if isinstance(node, ast.Name) else f".{node.attr}"
