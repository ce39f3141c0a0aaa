"""The report's methods and limits; one text for both of its forms."""

from collections.abc import Mapping

METHODS: Mapping[str, str] = {
    "One process per cell": (
        "Every cell runs in a process of its own, forked from a server that has torch "
        "loaded and has run one tiny step. A cell that runs out of memory, hangs or dies is "
        "a record, too."
    ),
    "The measured step": (
        "The second of two equal training steps: gradients and optimizer state exist by "
        "then, as in every step of a run but the first. Gradients are dropped at its "
        "beginning. Inference has one step."
    ),
    "Saved bytes": (
        "At the end of the forward pass: the bytes of the unique storages that autograd "
        "holds for the backward pass, parameters left out. Counted by hooks on saved "
        "tensors."
    ),
    "Peak live bytes": (
        "The most bytes that were allocated and not yet freed, at any "
        "moment of the measured step: parameters, gradients, optimizer state, batch and "
        "everything else. A running sum over the allocator's events, which begin before the "
        "model is built."
    ),
    "On a GPU": (
        "Live bytes are what is requested of PyTorch's caching allocator. Among them are "
        "cuBLAS's workspaces, one for each thread that multiplies: two in training, one in "
        "inference, of 8.1 MiB each, or 32 MiB from capability 9.0 on. They count as "
        "temporary and outweigh everything else in a small network. Reserved bytes are what "
        "the allocator holds of the GPU. The measured step is the one after the first that "
        "reserves no more than the one before; inference is traced twice, since the first "
        "pass makes the workspace."
    ),
    "RSS rise": (
        "The process's resident high-water mark during the measured step minus its resident "
        "size just before it: the median of several passes without any instrument."
    ),
    "Least squares": (
        "Each quantity is fitted with a constant, depth, batch and depth·batch. Each cell "
        "is weighted by its own size, so that relative errors count; intervals are 95% and "
        "HC3, which holds where the noise is uneven."
    ),
    "Exact quantities": (
        "Bytes that an allocator counts carry no noise. Where one formula with whole or "
        "rational coefficients gives every cell to the byte, the report says equal and "
        "gives no p-value."
    ),
    "Proportional": (
        "Twice the depth (or batch) needs twice the memory. Neighbouring cells are "
        "compared; “within 10%” means that one doubling multiplies the quantity by 1.8 to "
        "2.2. Exponents come from a fit on logarithms; one within 1 ± 0.05 is equivalent to "
        "1 when two one-sided tests say so at 5%."
    ),
}

LIMITS: tuple[str, ...] = (
    (
        "Fully connected networks on one machine; other layers keep other things for the "
        "backward pass."
    ),
    (
        "On numbers without noise, an interval says how far the cells lie from the fitted "
        "form, not how far a repetition would vary."
    ),
    (
        "Resident size moves in what the kernel and the allocator add at once, so small "
        "rises are coarse."
    ),
    (
        "A formula holds for the cells that were measured; further out it is an extrapolation, "
        "and the text says so where it makes one."
    ),
)
