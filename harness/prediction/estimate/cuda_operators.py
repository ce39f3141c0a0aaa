"""Runs operators on meta tensors as CUDA would, with the casts of ``torch.autocast``.

PyTorch's autocast uses a dispatch key for each type of device, and the meta device has no such key.
This module activates the autocast key of the spare device PrivateUse1 in this thread. The kernels
for this key cast meta tensors according to CUDA's operator lists. As in PyTorch, weights are cast
once and cached until the outermost autocast region ends. Autocast runs before autograd, so a kernel
can also call another function in place of the operator (``cuda_functions``).

Source: aten/src/ATen/autocast_mode.h (the lists), autocast_mode.cpp (``cached_cast``),
cudnn/AutocastRNN.cpp.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from harness.prediction.interpreter_state import patched_here

Function = Callable[..., Any]
Cast = Callable[[Any, Any, Any], Any]
"""Function that returns the positional and keyword arguments after autocast's casts."""

_NAME = "AutocastPrivateUse1"
_KEY: Any = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, _NAME))

_LOWER = """
    _convolution conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d.input
    conv_transpose3d.input convolution prelu addmm addmv addr matmul einsum mm mv linalg_vecdot
    linear addbmm baddbmm bmm chain_matmul linalg_multi_dot _thnn_fused_lstm_cell
    _thnn_fused_gru_cell lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell
    _scaled_dot_product_flash_attention scaled_dot_product_attention
    lstm.input gru.input rnn_tanh.input rnn_relu.input
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


def _is_eligible(tensor: Tensor) -> bool:
    return tensor.is_meta and tensor.is_floating_point() and tensor.dtype != torch.float64


def _cast(tensor: Tensor, to: torch.dtype) -> Tensor:
    """Return the tensor in dtype ``to``, from the cache if possible, as ``cached_cast`` does."""
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


def _cast_to(kind: Callable[[Any], torch.dtype]) -> Cast:
    """Return a function that casts all arguments to the dtype that ``kind`` returns for them."""

    def cast(_: Any, *given: Any) -> Any:
        to = kind(given)
        return tree_map_only(Tensor, lambda tensor: _cast(tensor, to), given)

    return cast


def _low(_: object = None) -> torch.dtype:
    return torch.get_autocast_dtype("cuda")


def _widest(given: Any) -> torch.dtype:
    kinds = {t.dtype for t in tree_leaves(given) if isinstance(t, Tensor) and _is_eligible(t)}
    return torch.float32 if torch.float32 in kinds else _low()


def _float32_by_type(operator: Any, args: Any, kwargs: Any) -> Any:
    place = [argument.name for argument in operator._schema.arguments].index("dtype")
    said = args[place] if len(args) > place else kwargs.get("dtype")
    if said is None and _is_eligible(args[0]):
        return args[:place], {**kwargs, "dtype": torch.float32}
    return args, kwargs


def _as_given(_: Any, *given: Any) -> Any:
    return given


_POLICIES: tuple[tuple[str, Cast], ...] = (
    (_LOWER, _cast_to(_low)),
    (_FLOAT32, _cast_to(lambda _: torch.float32)),
    (_FLOAT32_BY_TYPE, _float32_by_type),
    (_WIDEST, _cast_to(_widest)),
    ("dropout", _as_given),
)


def _listed() -> Iterator[tuple[Any, Cast]]:
    """Yield pairs of an operator in autocast's lists and the operator's cast."""
    for names, cast in _POLICIES:
        for name in names.split():
            base, _, overload = name.partition(".")
            packet = getattr(torch.ops.aten, base, None)
            if packet is not None and (overload or "default") in packet.overloads():
                yield getattr(packet, overload or "default"), cast


def _kernel(operator: Any, cast: Cast, on_gpu: Function) -> Function:
    """Return a kernel that applies autocast's casts, and calls ``on_gpu`` for meta tensors.

    Inside the kernel, autocast is off and meta tensors report the meta device.
    """

    def run(*args: Any, **kwargs: Any) -> Any:
        with torch._C.DisableTorchFunction(), torch._C._ExcludeDispatchKeyGuard(_KEY):
            if torch.is_autocast_enabled("cuda"):
                args, kwargs = cast(operator, args, kwargs)
            is_meta = isinstance(args[0], Tensor) and args[0].is_meta
            return (on_gpu if is_meta else operator)(*args, **kwargs)

    return run


@contextmanager
def cuda_operators(functions: Mapping[Any, Function]) -> Iterator[None]:
    """Run operators as CUDA does in a ``with`` block; ``functions`` replaces some operators."""
    registry: Any = torch.library
    library, others = registry.Library("aten", "IMPL"), registry.Library("_", "IMPL")
    clear = torch.clear_autocast_cache

    def cleared() -> None:
        _cache.clear()
        clear()

    included = torch._C._dispatch_tls_local_include_set() | _KEY
    excluded = torch._C._dispatch_tls_local_exclude_set() - _KEY
    try:
        others.fallback(registry.fallthrough_kernel, _NAME)
        for operator, cast in _listed():
            kernel = _kernel(operator, cast, functions.get(operator, operator))
            library.impl(operator, kernel, _NAME)
        with (
            patched_here(torch, "clear_autocast_cache", cleared),
            torch._C._ForceDispatchKeyGuard(included, excluded),
        ):
            yield
    finally:
        _cache.clear()
        library._destroy()
        others._destroy()
