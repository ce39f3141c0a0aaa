"""Computes what compiled regions and Triton kernels write to the pretended GPU.

Their kernels are not PyTorch's operators, so the stub cannot compute them. A region that Inductor
compiled is computed from its graph, operator by operator, on CPU tensors that share the GPU
tensors' memory; Inductor's own code then runs as ever and allocates what it allocates. A Triton
kernel of the user is run by Triton's interpreter after its launch.
"""

import contextlib
import ctypes
import inspect
import math
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from harness.dry_runs.computing import computes
from harness.dry_runs.trial_values import LIBRARY_VARIABLE
from harness.dry_runs.triton_numbers import as_on_a_gpu
from harness.prediction.after_import import after_import, instead

_PROGRAM_SECONDS = 2e-3
"""Reckoned time that the interpreter takes for one program of a Triton kernel."""
_NODE_SECONDS, _BYTES_A_SECOND, _PRODUCTS_A_SECOND = 1e-5, 2e9, 5e10
"""Reckoned speed of a graph's operators, as in ``stub/values/budget.h``."""
_MULTIPLY = ("mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward")


def compute_regions() -> None:
    """Compute compiled regions and Triton kernels from now on, if values are computed at all."""
    if computes():
        after_import("torch._inductor.compile_fx", _watch_inductor)
        after_import("torch._inductor.runtime.benchmarking", _mute_benchmarks)
        after_import("triton.testing", lambda module: _mute(module, "do_bench"))
        after_import("triton.runtime.jit", _watch_triton)


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """Neither follow nor forget what this thread writes to the GPU."""
    stub = ctypes.CDLL(None)
    stub.pretend_mute(1)
    try:
        yield
    finally:
        stub.pretend_mute(-1)


@contextlib.contextmanager
def _unnamed() -> Iterator[None]:
    """Do not report the kernels that this thread launches as not computed."""
    stub = ctypes.CDLL(None)
    stub.pretend_unnamed(1)
    try:
        yield
    finally:
        stub.pretend_unnamed(-1)


def _mute(owner: Any, name: str) -> None:
    """Mute a function that only times kernels."""

    @instead(owner, name)
    def timed(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        with _muted():
            return function(*arguments, **named)


def _mute_benchmarks(module: Any) -> None:
    for timer in vars(module).values():
        if isinstance(timer, type) and "benchmark_gpu" in vars(timer):
            _mute(timer, "benchmark_gpu")


def _pays(seconds: float) -> bool:
    """Take seconds from the budget; return False if it is used up."""
    return bool(_library().harness_pay(ctypes.c_double(seconds)))


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(os.environ[LIBRARY_VARIABLE])


def _watch_inductor(module: Any) -> None:
    import torch

    @instead(module, "_compile_fx_inner")
    def compile_inner(compiler: Callable[..., Any], graph: Any, *rest: Any, **named: Any) -> Any:
        own = torch.fx.Graph()
        own.output(own.graph_copy(graph.graph, {}), None)
        region = torch.fx.GraphModule(graph, own)
        with _muted():  # it times kernels
            made = compiler(graph, *rest, **named)
        if getattr(made, "current_callable", None) is not None:
            made.current_callable = _Region(region, made.current_callable)
        return made


class _Region:
    """A compiled region that computes its values from its graph."""

    _boxed_call = True

    def __init__(self, graph: Any, run: Callable[[list[Any]], Any]) -> None:
        self._graph = graph
        self._run = run
        self._seconds = _reckoned(graph)

    def __call__(self, inputs: list[Any]) -> Any:
        values = self._computed(inputs)
        if values is None:
            with _unnamed():
                return self._run(inputs)
        with _muted():
            outputs = self._run(inputs)
        _store(outputs, values)
        return outputs

    def _computed(self, inputs: Sequence[Any]) -> list[Any] | None:
        """Return the outputs on the CPU; None if an input is not known or cannot be computed."""
        import torch

        ops = torch.ops.harness_cpu
        with torch.no_grad():
            on_gpu = [one for one in inputs if isinstance(one, torch.Tensor) and one.is_cuda]
            captures = torch.cuda.is_current_stream_capturing()
            if captures or not all(ops.is_known(one) for one in on_gpu) or not _pays(self._seconds):
                return None
            twins = [
                ops.twin(one) if isinstance(one, torch.Tensor) and one.is_cuda else one
                for one in inputs
            ]
            try:
                return list(_interpreter(self._graph).run(*twins))
            except Exception:  # an operator that the CPU does not have
                _library().harness_not_computed(b"a compiled region")
                return None


def _interpreter(graph: Any) -> Any:
    """Return an interpreter that runs a graph of the GPU on the CPU."""
    import torch

    from harness.dry_runs.cpu_equivalents.table import function_of

    library = _library()

    def on_cpu(value: Any) -> Any:
        is_gpu = isinstance(value, torch.device) and value.type == "cuda"
        return torch.device("cpu") if is_gpu else value

    class OnCpu(torch.fx.Interpreter):
        def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
            schema = getattr(target, "_schema", None)
            name = "" if schema is None else f"{schema.name}.{schema.overload_name}"
            args, kwargs = torch.utils._pytree.tree_map(on_cpu, (args, kwargs))
            compute = partial(super().call_function, function_of(name) or target)
            plain, _, overload = name.partition("::")[2].partition(".")
            if overload == "dtype" or not library.harness_widens(plain.encode()):
                return compute(args, kwargs)
            return _computed_wide(compute, args, kwargs)

        def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
            made = super().get_attr(target, args, kwargs)
            is_gpu = isinstance(made, torch.Tensor) and made.is_cuda
            return torch.ops.harness_cpu.twin(made) if is_gpu else made

    return OnCpu(graph, garbage_collect_values=True)


def _computed_wide(compute: Callable[[Any, Any], Any], args: Any, kwargs: Any) -> Any:
    """Compute 16-bit operands with 32 bits, as ``stub/values/computed_operators.h`` does."""
    import torch
    from torch.utils._pytree import tree_map_only

    narrow = set[torch.dtype]()

    def wide(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dtype not in (torch.float16, torch.bfloat16):
            return tensor
        narrow.add(tensor.dtype)
        return tensor.float()

    def back(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(next(iter(narrow))) if tensor.dtype == torch.float32 else tensor

    made = compute(*tree_map_only(torch.Tensor, wide, (args, kwargs)))
    return tree_map_only(torch.Tensor, back, made) if len(narrow) == 1 else made


def _store(outputs: Any, values: Sequence[Any]) -> None:
    """Write computed outputs to the memory of a region's own outputs."""
    import torch

    with torch.no_grad():
        for output, value in zip(outputs, values, strict=True):
            if isinstance(output, torch.Tensor) and output.is_cuda and output.numel():
                twin = torch.ops.harness_cpu.twin(output)
                # None of the functions of the CPU reads the results that it leaves empty.
                if value.numel() and twin.data_ptr() != value.data_ptr():
                    twin.copy_(value)
                torch.ops.harness_cpu.know(output)


def _reckoned(graph: Any) -> float:
    """Return about how many seconds a graph takes on the CPU."""
    seconds = 0.0
    for node in graph.graph.nodes:
        made = node.meta.get("val")
        if node.op != "call_function" or not hasattr(made, "numel"):
            continue
        sizes = [_size(one.meta.get("val")) for one in node.all_input_nodes]
        seconds += _NODE_SECONDS + (sum(sizes) + _size(made)) * 4 / _BYTES_A_SECOND
        if getattr(node.target, "_opname", "") in _MULTIPLY:
            largest = sorted([*sizes, _size(made)])[-3:]
            seconds += 2 * math.sqrt(math.prod(largest)) / _PRODUCTS_A_SECOND
    return seconds


def _size(value: Any) -> float:
    """Return a tensor's number of elements; 0 for other values and for unknown sizes."""
    with contextlib.suppress(Exception):
        return float(value.numel())
    return 0.0


def _watch_triton(module: Any) -> None:
    @instead(module.JITFunction, "run")
    def run(launch: Any, self: Any, *arguments: Any, grid: Any, warmup: bool, **named: Any) -> Any:
        import torch

        given = [_unwrapped(one) for one in (*arguments, *named.values())]
        tensors = [one for one in given if isinstance(one, torch.Tensor)]
        ops = torch.ops.harness_cpu
        follows = not warmup and all(one.is_cuda and ops.is_known(one) for one in tensors)
        follows = follows and not torch.cuda.is_current_stream_capturing()
        stub = ctypes.CDLL(None)
        launches = stub.pretend_launches()
        with _unnamed():
            made = launch(self, *arguments, grid=grid, warmup=warmup, **named)
        if follows and not stub.pretend_is_muted() and not stub.pretend_in_aten():
            try:
                is_computed = _interpret(self, grid, arguments, named)
            except Exception:  # what the interpreter cannot run is not known
                is_computed = False
                _library().harness_not_computed(f"kernel {self.fn.__name__}".encode())
            if is_computed:
                stub.pretend_take_back(launches)  # an operator of the user is known if all of it is
                for one in tensors:
                    ops.know(one)
        return made


def _unwrapped(value: Any) -> Any:
    """Return the tensor that one of PyTorch's own kernels reads through a wrapper."""
    return value._tensor if type(value).__name__ == "ConstTensorWrapper" else value


def _interpret(kernel: Any, grid: Any, arguments: Sequence[Any], named: dict[str, Any]) -> bool:
    """Run a launched kernel in Triton's interpreter, on CPU tensors; False without a budget."""
    import torch
    from triton.runtime import interpreter, jit

    def on_cpu(value: Any) -> Any:
        value = _unwrapped(value)
        is_gpu = isinstance(value, torch.Tensor) and value.is_cuda
        return torch.ops.harness_cpu.twin(value) if is_gpu else value

    inner = jit.JITFunction.__call__
    names = inspect.getfullargspec(kernel.fn).args
    if callable(grid):
        given = dict(zip(names, arguments, strict=False)) | named
        grid = grid(given)
    if not _pays(math.prod(grid) * _PROGRAM_SECONDS):
        return False
    function = interpreter.InterpretedFunction(kernel.fn)
    jit.JITFunction.__call__ = lambda self, *given, **more: interpreter.InterpretedFunction(
        self.fn
    )(*given, **more)
    try:
        with _kept_language(), as_on_a_gpu(interpreter):
            run = interpreter.GridExecutor(function.rewrite(), kernel.arg_names, tuple(grid))
            run(*map(on_cpu, arguments), **{name: on_cpu(one) for name, one in named.items()})
        return True
    finally:
        jit.JITFunction.__call__ = inner


@contextlib.contextmanager
def _kept_language() -> Iterator[None]:
    """Put back what Triton's interpreter leaves replaced in its language; the compiler needs it."""
    from triton import language

    core = language.core
    classes = (core.tensor, core.tensor_descriptor_base, core.dtype, core.condition)
    owners = (language, core, language.math, *classes)
    before = [dict(vars(owner)) for owner in owners]
    try:
        yield
    finally:
        for owner, kept in zip(owners, before, strict=True):
            for name in vars(owner).keys() - kept.keys():
                delattr(owner, name)
            for name, value in kept.items():
                if vars(owner)[name] is not value:
                    setattr(owner, name, value)
