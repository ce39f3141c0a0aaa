"""Initial values of large tensors on the host: written only if something reads them.

A network is built on the host and moved to a pretended GPU, where its values decide nothing.
Writing them would take most of the time and all of the memory. So an initialiser of a large
floating-point tensor is noted by the address of its memory, and its pages return to the system
(``stub/host_memory.c``). Whatever reads them has them written first, with the random numbers of a
real run: an operator, in any thread and on any view (``stub/host_reads.h``), or Python's own ways
to the memory (``_READERS``). A note holds no tensor, and ends with its memory.
"""

import ctypes
import functools
import os
import threading
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary
from torch.utils._python_dispatch import _get_current_dispatch_mode

from harness.dry_run.value_reads import LIBRARY_VARIABLE
from harness.schema.units import format_bytes

LARGE_BYTES = 1 << 20
"""Tensors from this size on; ``LARGE`` of ``stub/host_memory.c``."""

_RANDOM = ("normal_", "uniform_")
_CHANGES = (
    *("fill_", "zero_", "mul_", "add_", "sub_", "div_", "neg_", "abs_", "erfinv_", "clamp_"),
    *("clamp_min_", "clamp_max_", "__imul__", "__iadd__", "__isub__", "__itruediv__"),
)
"""Methods that go on with an initialisation if they are given numbers alone."""
_INITIALISERS = ("trunc_normal_", "orthogonal_")
"""Functions of ``torch.nn.init`` that do more than call one of the methods above."""
_READERS = ("numpy", "tolist", "data_ptr", "__reduce_ex__", "__dlpack__")

_Function = Callable[..., Any]
_OnRead = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)
_UNSENT = (
    "the values of large parameters are not sent to the worker, and the code reads them on the host"
    ": give a function or a class that builds the network"
)


class _Step(NamedTuple):
    """A call that writes, or changes, a tensor in a block of memory."""

    function: _Function
    arguments: tuple[Any, ...]
    named: dict[str, Any]
    dtype: torch.dtype
    place: tuple[torch.Size, tuple[int, ...], int]
    random: Tensor | int | None
    """State of the random numbers, or a seed."""

    def run(self, memory: Tensor) -> None:
        """Write the tensor; ``memory`` is its block as bytes."""
        tensor = memory.view(self.dtype).as_strided(*self.place)
        with torch.random.fork_rng(devices=[]):
            if isinstance(self.random, int):
                torch.default_generator.manual_seed(self.random)
            elif self.random is not None:
                torch.set_rng_state(self.random)
            self.function(tensor, *self.arguments, **self.named)


class LeftOutValues:
    """Notes the initialisers of large tensors in this process.

    Attributes:
        current: the one that has begun; None where no stub is loaded.
        unsent: why a step is no answer: it reads values on the host that this process has not.
    """

    current: ClassVar["LeftOutValues | None"] = None
    unsent: ClassVar[str | None] = None

    def __init__(self) -> None:
        self._stub = ctypes.CDLL(None)
        self._steps: dict[int, list[_Step]] = {}
        self._lock = threading.Lock()
        self._writer: int | None = None
        self._listening: object = None
        self._first_seed = 0
        self._left_bytes = 0
        self._drawn_otherwise = False

    def begin(self) -> None:
        """Leave values out from now on, wherever the stub is loaded."""
        if not hasattr(self._stub, "pretend_leave_out"):
            return
        LeftOutValues.current = self
        self._stub.pretend_leave_out.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self._stub.pretend_left_out.argtypes = [ctypes.c_void_p]
        self._stub.pretend_left_out.restype = ctypes.c_size_t
        self._stub.pretend_written.argtypes = [ctypes.c_void_p]
        self._stub.pretend_skip_random.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
        self._first_seed = torch.initial_seed()
        os.register_at_fork(after_in_child=self._renew)
        for name in _RANDOM:
            _replace(Tensor, name, self._begins)
        for name in _INITIALISERS:
            _replace(nn.init, name, self._begins)
        for name in _CHANGES:
            _replace(Tensor, name, self._goes_on)
        for name in _READERS:
            _replace(Tensor, name, self._is_read)
        guards: Any = torch._C._dynamo.guards
        check = guards.assert_size_stride

        def checked(tensor: Tensor, *rest: Any) -> None:  # of what compiled code is called with
            self._is_read(check, tensor, rest, {})
            check(tensor, *rest)

        guards.assert_size_stride = checked
        patched: Any = nn.Module
        apply: _Function = nn.Module._apply

        @functools.wraps(apply)
        def applied(module: nn.Module, function: _Function, *rest: Any, **named: Any) -> Any:
            if function.__module__ == nn.Module.__module__:
                function = functools.partial(self._converted, function)
                function.__module__ = ""
            return apply(module, function, *rest, **named)

        patched._apply = applied

    def _renew(self) -> None:
        """Forget a lock that another thread held when this process was forked."""
        self._lock, self._writer = threading.Lock(), None

    def notes(self) -> tuple[str, ...]:
        """Return what was left out, if anything was."""
        if not self._left_bytes:
            return ()
        left = (
            f"initial values of {format_bytes(self._left_bytes)} on the host were never written,"
            " because nothing read them before they were moved to the GPU"
        )
        other = "random numbers of the host differ from a real run's, although a seed was set"
        return (left, other) if self._drawn_otherwise else (left,)

    def take(self, tensor: Tensor) -> None:
        """Leave out the values of a tensor that came without them."""

        def note(_: Tensor) -> None:
            LeftOutValues.unsent = _UNSENT

        self._leave(tensor, [_step(tensor, note)])

    def _begins(
        self, function: _Function, tensor: Tensor, given: tuple[Any, ...], named: Any
    ) -> bool:
        """Leave an initialiser out; return whether that was possible."""
        own = any(isinstance(one, torch.Generator) for one in (*given, *named.values()))
        if own or not self._may_change(tensor, function) or tensor.nbytes < LARGE_BYTES:
            return False
        before = self._bytes(tensor)
        if not tensor.is_contiguous() or not self._leave(tensor, []):
            return False
        step = _step(tensor, function, *given, **named)
        self._steps[_block(tensor)] = [
            step._replace(random=self._draw(function, tensor, given, named))
        ]
        self._left_bytes += tensor.nbytes - before
        return True

    def _goes_on(
        self, function: _Function, tensor: Tensor, given: tuple[Any, ...], named: Any
    ) -> bool:
        """Note a change of a tensor whose values are left out; return whether that was possible."""
        if tensor.is_cuda or not self._may_change(tensor, function) or not self._bytes(tensor):
            return False
        if any(isinstance(one, Tensor) for one in (*given, *named.values())):
            return False
        with self._lock:
            steps = self._steps.get(_block(tensor)) if self._bytes(tensor) else None
            if steps is not None:
                steps.append(_step(tensor, function, *given, **named))
        return steps is not None

    def _is_read(
        self, function: _Function, tensor: Tensor, given: tuple[Any, ...], named: Any
    ) -> bool:
        del function, given, named
        if not tensor.is_cuda and _is_plain(tensor) and self._bytes(tensor):
            self._write(_block(tensor), 0)
        return False

    def _converted(self, function: _Function, tensor: Tensor) -> Tensor:
        """Return what ``Module.to`` makes of a tensor: one without values if it has none itself."""
        if _is_plain(tensor) and self._bytes(tensor) == tensor.nbytes:
            like: Tensor = function(tensor.detach().new_empty((0,) * tensor.dim()))
            kept = like.device.type == "cpu" and like.is_floating_point()
            steps = list(self._steps.get(_block(tensor), ()))
            if kept and like.dtype != tensor.dtype and steps:
                made = torch.empty_like(tensor.detach(), dtype=like.dtype)
                source = _step(tensor, Tensor.copy_)  # its place, and no tensor

                def convert(target: Tensor, size: int = tensor.nbytes) -> None:
                    memory = torch.empty(size, dtype=torch.uint8)
                    for step in steps:
                        step.run(memory)
                    target.copy_(memory.view(source.dtype).as_strided(*source.place))

                if self._leave(made, [_step(made, convert)]):
                    self._left_bytes += made.nbytes - tensor.nbytes
                    return made
        converted: Tensor = function(tensor)
        return converted

    def _may_change(self, tensor: Tensor, function: _Function) -> bool:
        """Return whether a change may be left out: it is no error, and no mode would see it."""
        if not _is_plain(tensor) or not tensor.is_floating_point():
            return False
        refused = tensor.requires_grad and torch.is_grad_enabled()
        if refused and function.__name__ not in _INITIALISERS:
            return False
        return _get_current_dispatch_mode() is None and threading.get_ident() != self._writer

    def _leave(self, tensor: Tensor, steps: list[_Step]) -> bool:
        """Give the memory of a whole block back; return False if the tensor is none."""
        address = _block(tensor)
        with self._lock:
            if not self._stub.pretend_leave_out(address, tensor.nbytes):
                return False
            self._steps[address] = steps
        if self._listening is None:
            self._listening = _OnRead(self._write)
            library = ctypes.CDLL(os.environ[LIBRARY_VARIABLE])
            library.harness_on_host_read(self._listening)
        return True

    def _bytes(self, tensor: Tensor) -> int:
        """Return the size of the tensor's block if its values are left out, else 0."""
        return int(self._stub.pretend_left_out(_block(tensor)))

    def _write(self, address: int, overwritten: int) -> None:
        """Write the values of a block, unless all of them are written next.

        A thread of its own writes: it has none of the modes and transformations of the reader's.
        """
        if threading.get_ident() == self._writer:
            return
        with self._lock:
            size = int(self._stub.pretend_left_out(address))
            steps = self._steps.pop(address, [])
            if size and not overwritten:
                self._left_bytes -= size
                writer = threading.Thread(target=self._run, args=(address, size, steps))
                writer.start()
                writer.join()
            self._stub.pretend_written(address)

    def _run(self, address: int, size: int, steps: list[_Step]) -> None:
        self._writer = threading.get_ident()
        try:
            memory = (ctypes.c_char * size).from_address(address)
            for step in steps:
                step.run(torch.frombuffer(memory, dtype=torch.uint8))
        except Exception as error:
            LeftOutValues.unsent = f"initial values on the host could not be written: {error}"
        finally:
            self._writer = None

    def _draw(
        self, function: _Function, tensor: Tensor, given: tuple[Any, ...], named: Any
    ) -> Tensor | int:
        """Return the random numbers of an initialiser; skip them if the program set a seed."""
        if torch.initial_seed() == self._first_seed:
            return self._first_seed + len(self._steps) + 1
        state = torch.get_rng_state()
        words = _words(function, tensor.dtype) if function.__name__ in _RANDOM else 0
        if not words:
            self._drawn_otherwise = True
            return state
        rest = 16 + tensor.numel() % 16  # PyTorch draws in groups of 16
        skipped = state.clone()
        self._stub.pretend_skip_random(skipped.data_ptr(), words * (tensor.numel() - rest))
        torch.set_rng_state(skipped)
        function(torch.empty(rest, dtype=tensor.dtype), *given, **named)
        return state


@functools.cache
def _words(function: _Function, dtype: torch.dtype) -> int:
    """Return how many words of the generator a number takes, 0 if that is not constant."""
    generator = torch.Generator().manual_seed(1)
    begin = generator.get_state()
    function(torch.empty(48, dtype=dtype), generator=generator)
    for words in (1, 2):
        guess = begin.clone()
        ctypes.CDLL(None).pretend_skip_random(
            ctypes.c_void_p(guess.data_ptr()), ctypes.c_uint64(48 * words)
        )
        if torch.equal(guess, generator.get_state()):
            return words
    return 0


def _step(tensor: Tensor, function: _Function, *arguments: Any, **named: Any) -> _Step:
    place = (tensor.size(), tensor.stride(), int(tensor.storage_offset()))
    return _Step(function, arguments, named, tensor.dtype, place, None)


def _block(tensor: Tensor) -> int:
    return int(tensor.untyped_storage().data_ptr())


def _is_plain(tensor: Tensor) -> bool:
    """Return whether a tensor is one of the host's own memory, not a wrapper."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.device.type != "cpu":
        return False
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    return tensor.layout == torch.strided and not wrapped


def _replace(owner: Any, name: str, instead: Callable[..., bool]) -> None:
    """Have a function ask ``instead`` first, and return its tensor if that did the work."""
    real: _Function = getattr(owner, name)

    @functools.wraps(real)
    def replaced(*given: Any, **named: Any) -> Any:
        if not given or not isinstance(given[0], Tensor):
            return real(*given, **named)
        tensor, *rest = given
        if has_torch_function_unary(tensor):
            return handle_torch_function(replaced, (tensor,), *given, **named)
        if instead(real, tensor, tuple(rest), named):
            return tensor
        return real(*given, **named)

    setattr(owner, name, replaced)
