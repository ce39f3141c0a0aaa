"""Comparison of what the pretended GPU gives with what the CPU gives."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import torch

from harness.dry_runs.computing import stub_account

Outcome = Literal["equal", "rounded", "random", "unknown", "differ", "error", "left out"]
"""``unknown``: the dry run itself says that it did not compute the result. ``rounded``: 16-bit
results are not those of the CPU's 16-bit kernel, but those of its 32-bit kernel."""
GRAVITY: tuple[Outcome, ...] = (
    "left out", "random", "equal", "rounded", "unknown", "differ", "error",
)  # fmt: skip
WRONG: tuple[Outcome, ...] = ("unknown", "differ", "error")

REFUSED_BY_CPU = "the CPU has no kernel for it, or refuses it"
REFUSED_ON_GPUS = "PyTorch refuses it on a GPU, too"

REFUSED_BY_CUDA = (
    "`driver` other than `gels` is not supported on CUDA",
    "Could not run 'aten::narrow_copy.out' with arguments from the 'CUDA' backend",
    "tensor_split expected tensor_indices_or_sections to be on cpu",
    "'aten::_scaled_dot_product_flash_attention_for_cpu' with arguments from the 'CUDA'",
    "cudnn RNN backward can only be called in training mode",
    "Could not run 'aten::_sparse_mm_reduce_impl' with arguments from the 'SparseCsrCUDA'",
    "to have type Float but got",
    "expected scalar type Float but found",
    "complex tensors with hermitian=True flag are not supported on CUDA",
)
"""Texts of the errors that PyTorch's own code for CUDA raises on a real GPU, too."""

_NARROW = torch.float16, torch.bfloat16

Tolerance = tuple[float, float] | None
"""Absolute and relative tolerance, None for the defaults of ``torch.testing``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """Outcome of a case's samples, e.g. of an operator's backward passes with float16.

    Attributes:
        samples: samples that were compared.
        left_out: samples that could not be compared; ``detail`` has the reason if it is all.
        taken: samples of the case that were tried.
        available: samples that the database has for the case.
        detail: the first difference, error or reason of the gravest outcome.
    """

    kind: str
    name: str
    dtype: str
    samples: int
    outcome: Outcome
    detail: str = ""
    left_out: int = 0
    taken: int = 0
    available: int = 0


class Tally:
    """Counts the samples of one kind and keeps the gravest outcome with its text."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.samples = self.left_out = 0
        self.outcome: Outcome = "left out"
        self.detail = ""

    def add(self, outcome: Outcome, detail: str = "") -> None:
        """Count one sample."""
        self.samples += 1
        if GRAVITY.index(outcome) > GRAVITY.index(self.outcome):
            self.outcome, self.detail = outcome, detail

    def leave_out(self, reason: str) -> None:
        """Count one sample that is not compared."""
        self.left_out += 1
        if self.outcome == "left out" and not self.detail:
            self.detail = reason

    def error(self, error: Exception, label: str = "") -> None:
        """Count an error of the GPU, unless a real one gives it, too."""
        text = " ".join(str(error).split())
        if any(one in text for one in REFUSED_BY_CUDA):
            self.leave_out(REFUSED_ON_GPUS)
        else:
            self.add("error", f"{label}{type(error).__name__}: {text}"[:200])

    def result(self, name: str, dtype: object, taken: int = 0, available: int = 0) -> Result:
        """Return the outcome of all samples that were counted."""
        return Result(
            kind=self.kind,
            name=name,
            dtype=str(dtype).removeprefix("torch."),
            samples=self.samples,
            outcome=self.outcome,
            detail=self.detail or ("no samples" if self.outcome == "left out" else ""),
            left_out=self.left_out,
            taken=taken,
            available=available,
        )


def is_computed(value: object) -> bool:
    """Return whether the dry run computed all tensors of the GPU in ``value``."""
    return all(
        one.numel() == 0 or bool(torch.ops.harness_cpu.is_known(one))
        for tensor in tensors(value)
        for one in parts_of(tensor.detach())
        if one.is_cuda and type(one) is torch.Tensor and not one._is_zerotensor()
    )


def not_computed() -> list[str]:
    """Return the operators that were not computed since this was asked last."""
    account = stub_account()
    if account is None:
        return []
    names = account.not_computed.decode().split()
    account.not_computed = b""
    return sorted(names)


def parts_of(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the strided tensors that a tensor is made of."""
    if tensor.layout == torch.strided:
        return [tensor]
    if tensor.layout == torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    return [tensor.values()]


def mapped(function: Callable[[torch.Tensor], object], value: object) -> object:
    """Return ``value`` with ``function`` of each tensor in it."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(mapped(function, one) for one in value))  # type: ignore[arg-type]
    if isinstance(value, list | tuple):
        return type(value)(mapped(function, one) for one in value)
    if isinstance(value, dict):
        return {key: mapped(function, one) for key, one in value.items()}
    return value


def on_gpu(value: object) -> object:
    """Return a copy of ``value`` whose tensors and devices are those of the GPU.

    A tensor that stands there twice is copied once: its gradient is that of both places.
    """
    copies: dict[int, torch.Tensor] = {}

    def copy(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in copies:
            copies[id(tensor)] = moved(tensor, "cuda")
        return copies[id(tensor)]

    return mapped(copy, _naming_gpu(value))


def _naming_gpu(value: object) -> object:
    if isinstance(value, tuple):
        return tuple(_naming_gpu(one) for one in value) if type(value) is tuple else value
    if isinstance(value, dict):
        return {key: _naming_gpu(one) for key, one in value.items()}
    is_cpu = value == "cpu" or (isinstance(value, torch.device) and value.type == "cpu")
    return "cuda" if is_cpu else value


def moved(tensor: torch.Tensor, device: str | torch.device) -> torch.Tensor:
    """Return a leaf on ``device`` with a copy of the storage and the same ``requires_grad``."""
    old = tensor.detach()
    if tensor.layout != torch.strided or tensor.is_conj() or tensor.is_neg():
        return old.clone().to(device).requires_grad_(tensor.requires_grad)
    storage = (
        torch.empty(0, dtype=torch.uint8, device=old.device)
        .set_(old.untyped_storage())
        .clone()
        .to(device)
    )
    copy = torch.empty(0, dtype=tensor.dtype, device=device).set_(
        storage.untyped_storage(), old.storage_offset(), old.size(), old.stride()
    )
    return copy.requires_grad_(tensor.requires_grad)


def is_narrow(value: object) -> bool:
    """Return whether a tensor in ``value`` has numbers of 16 bits."""
    return any(one.dtype in _NARROW for one in tensors(value))


def wide(value: object) -> object:
    """Return ``value`` with 32 bits for numbers of 16 bits, and the same ``requires_grad``."""

    def widened(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dtype not in _NARROW:
            return tensor
        return tensor.detach().float().requires_grad_(tensor.requires_grad)

    return mapped(widened, value)


def copied(value: object) -> object:
    """Return ``value`` with copies of its tensors that need no gradient."""
    return mapped(lambda one: moved(one.detach(), one.device), value)


def tensors(value: object) -> Iterator[torch.Tensor]:
    """Yield the tensors in ``value``."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from tensors(one)
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for one in value:
            yield from tensors(one)


def difference(want: object, got: object, tolerance: Tolerance = None) -> str:
    """Return how two results differ, "" if they are equal within the tolerance."""
    wanted, given = list(tensors(want)), [one.detach().cpu() for one in tensors(got)]
    if len(wanted) != len(given):
        return f"{len(given)} tensors for {len(wanted)}"
    if not wanted:
        return "" if type(want) is not float and want == got else _numbers(want, got)
    for one, other in zip(wanted, given, strict=True):
        text = _difference(one.detach(), other, tolerance)
        if text:
            return text
    return ""


def _numbers(want: object, got: object) -> str:
    if isinstance(want, float) and isinstance(got, float):
        return _difference(torch.tensor(want), torch.tensor(got), None)
    return f"{got} for {want}"[:200]


def _difference(want: torch.Tensor, got: torch.Tensor, tolerance: Tolerance) -> str:
    """Compare values; which type a result has is decided by PyTorch's own code for CUDA."""
    if want.dtype == torch.complex32:
        want, got = want.to(torch.complex64), got.to(torch.complex64)
    if want.layout == torch.strided and want.dtype == got.dtype and torch.equal(want, got):
        return ""
    atol, rtol = tolerance or (None, None)
    try:
        torch.testing.assert_close(
            got, want, atol=atol, rtol=rtol, equal_nan=True, check_dtype=False
        )
    except (AssertionError, RuntimeError, ValueError, NotImplementedError) as error:
        return " ".join(str(error).split())[:200]
    return ""


def same_distribution(want: object, got: object) -> str:
    """Return how random results differ in type, shape, mean and deviation, "" if they do not."""
    for one, other in zip(tensors(want), tensors(got), strict=True):
        if one.dtype != other.dtype or one.shape != other.shape:
            return f"{other.dtype} {tuple(other.shape)} for {one.dtype} {tuple(one.shape)}"
        if one.numel() < 30 or one.is_complex():
            continue
        mine, theirs = one.detach().double(), other.detach().cpu().double()
        deviation = float(mine.std())
        if (
            abs(float(mine.mean() - theirs.mean()))
            > 6 * deviation / one.numel() ** 0.5 * 2**0.5 + 1e-6
        ):
            return f"mean {float(theirs.mean()):.3g} for {float(mine.mean()):.3g}"
    return ""
