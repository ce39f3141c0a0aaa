"""``torch.autocast("cuda")`` for the simulated GPU: the same casts at the same level.

PyTorch casts the arguments of listed operators at a dispatch key of the tensor's device, and
meta tensors have none. So while autocast is enabled the key of the spare device (PrivateUse1)
is switched on for every operator, and the kernels registered there cast meta tensors by CUDA's
lists. Weights are cast once and cached until the outermost region ends, as in PyTorch.

Source: aten/src/ATen/autocast_mode.h (the lists), autocast_mode.cpp (``cached_cast``).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from harness.prediction.interpreter_state import patched_here

Kernel = Callable[..., Any]

_KEY: Any = torch._C.DispatchKey.AutocastPrivateUse1  # type: ignore[attr-defined]
_NAME = "AutocastPrivateUse1"

_LOWER = """
    _convolution conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d.input
    conv_transpose3d.input convolution prelu addmm addmv addr matmul einsum mm mv linalg_vecdot
    linear addbmm baddbmm bmm chain_matmul linalg_multi_dot _thnn_fused_lstm_cell
    _thnn_fused_gru_cell lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell
    _scaled_dot_product_flash_attention scaled_dot_product_attention
"""
_FLOAT32 = """
    acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan
    pow.Tensor_Scalar pow.Tensor_Tensor pow.Scalar softplus layer_norm native_layer_norm
    rms_norm group_norm frobenius_norm.dim nuclear_norm nuclear_norm.dim cosine_similarity
    poisson_nll_loss cosine_embedding_loss nll_loss nll_loss2d hinge_embedding_loss kl_div
    l1_loss smooth_l1_loss huber_loss mse_loss margin_ranking_loss multilabel_margin_loss
    soft_margin_loss triplet_margin_loss multi_margin_loss binary_cross_entropy_with_logits
    dist pdist cdist renorm logsumexp upsample_nearest1d _upsample_nearest_exact1d
    upsample_nearest2d _upsample_nearest_exact2d upsample_nearest3d _upsample_nearest_exact3d
    upsample_linear1d upsample_bilinear2d _upsample_bilinear2d_aa upsample_trilinear3d
    upsample_bicubic2d _upsample_bicubic2d_aa
"""
_FLOAT32_BY_TYPE = """
    prod prod.dim_int softmax.int log_softmax.int cumprod cumsum linalg_vector_norm
    linalg_matrix_norm linalg_matrix_norm.str_ord sum sum.dim_IntList
"""
_WIDEST = """
    addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put tensordot scatter_add
"""
_cache: dict[int, tuple[Tensor, Tensor]] = {}


def cast_arguments(*given: Tensor | None) -> Sequence[Any]:
    """Return tensors as autocast hands them to an operator of its 16-bit list."""
    if not torch.is_autocast_enabled("cuda"):
        return given
    to = _low()
    return [t if t is None else _cast(t, to) for t in reversed(given)][::-1]


def _is_eligible(tensor: Tensor) -> bool:
    return tensor.is_meta and tensor.is_floating_point() and tensor.dtype != torch.float64


def _cast(tensor: Tensor, to: torch.dtype) -> Tensor:
    """Return the tensor in ``to``: ``cached_cast``."""
    with torch._C.DisableTorchFunction():
        if not _is_eligible(tensor) or tensor.dtype == to:
            return tensor
        keep = (
            to == _low()
            and tensor.dtype == torch.float32
            and tensor.requires_grad
            and tensor.is_leaf
            and not tensor._is_view()
            and torch.is_autocast_cache_enabled()
        )
        if keep and id(tensor) in _cache:
            return _cache[id(tensor)][1]
        cast = tensor.to(to)
        if keep:
            _cache[id(tensor)] = tensor, cast
        return cast


def _cast_to(kind: Callable[[Any], torch.dtype]) -> Callable[[Any], Kernel]:
    """Return a policy that casts all arguments to the type that ``kind`` says for them."""

    def policy(operator: Any) -> Kernel:
        def run(*args: Any, **kwargs: Any) -> Any:
            to = kind(args)

            def cast(tensor: Tensor) -> Tensor:
                return _cast(tensor, to)

            args, kwargs = tree_map_only(Tensor, cast, (args, kwargs))
            return operator(*args, **kwargs)

        return run

    return policy


def _low(_: object = None) -> torch.dtype:
    return torch.get_autocast_dtype("cuda")


def _widest(args: Any) -> torch.dtype:
    kinds = {t.dtype for t in tree_leaves(args) if isinstance(t, Tensor) and _is_eligible(t)}
    return torch.float32 if torch.float32 in kinds else _low()


def _float32_by_type(operator: Any) -> Kernel:
    place = [argument.name for argument in operator._schema.arguments].index("dtype")

    def run(*args: Any, **kwargs: Any) -> Any:
        said = args[place] if len(args) > place else kwargs.get("dtype")
        if said is None and _is_eligible(args[0]):
            return operator(*args[:place], **{**kwargs, "dtype": torch.float32})
        return operator(*args, **kwargs)

    return run


@contextmanager
def without_autocast() -> Iterator[None]:
    """Cast nothing while the block runs, as inside an operator that was cast."""
    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(_KEY)):
        yield


_POLICIES = (
    (_LOWER, _cast_to(_low)),
    (_FLOAT32, _cast_to(lambda _: torch.float32)),
    (_FLOAT32_BY_TYPE, _float32_by_type),
    (_WIDEST, _cast_to(_widest)),
)


def _kernels() -> Iterator[tuple[str, Kernel]]:
    """Yield every operator that is cast in this version of PyTorch, and how."""
    for names, policy in _POLICIES:
        for name in names.split():
            base, _, overload = name.partition(".")
            packet = getattr(torch.ops.aten, base, None)
            if packet is not None and (overload or "default") in packet.overloads():
                yield name, without_autocast()(policy(getattr(packet, overload or "default")))


def _switch() -> None:
    """Switch the casts on or off, as CUDA's autocast is."""
    enabled = torch.is_autocast_enabled("cuda")
    torch._C._dispatch_tls_set_dispatch_key_included(_KEY, enabled)
    torch._C._dispatch_tls_set_dispatch_key_excluded(_KEY, not enabled)


@contextmanager
def simulated_autocast() -> Iterator[None]:
    """Make ``torch.autocast("cuda")`` cast meta tensors while the block runs."""
    registry: Any = torch.library
    library, others = registry.Library("aten", "IMPL"), registry.Library("_", "IMPL")
    clear = torch.clear_autocast_cache

    def cleared() -> None:
        _cache.clear()
        clear()

    def then_switched(function: Kernel) -> Kernel:
        def run(*args: Any) -> Any:
            result = function(*args)
            _switch()
            return result

        return run

    switching = [
        (torch.autocast, "__enter__"),
        (torch.autocast, "__exit__"),
        (torch, "set_autocast_enabled"),
    ]
    try:
        others.fallback(registry.fallthrough_kernel, _NAME)
        for name, kernel in _kernels():
            library.impl(name, kernel, _NAME)
        with ExitStack() as stack:
            for place, name in switching:
                switched = then_switched(getattr(place, name))
                stack.enter_context(patched_here(place, name, switched))
            stack.enter_context(patched_here(torch, "clear_autocast_cache", cleared))
            yield
    finally:
        _cache.clear()
        torch._C._dispatch_tls_set_dispatch_key_included(_KEY, False)
        torch._C._dispatch_tls_set_dispatch_key_excluded(_KEY, True)
        library._destroy()
        others._destroy()
