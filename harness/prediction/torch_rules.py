"""Which rule of the memory model holds from which version of PyTorch on.

The table is the only place where versions make a difference. Most rules have held since the
oldest version; a rule of which several versions exist has one row each, and the model asks
``rule_of`` which of them it must follow. ``harness doctor --check-model`` compares every rule
with the installed version; ``results/torch-versions.md`` keeps the comparison with all of them.
"""

from dataclasses import dataclass

from harness.prediction.versions import OLDEST, TorchVersion, described_version

EVENTS = "every event of the workloads that tests/prediction draws"
DRY_RUN = "PyTorch's allocator under the dry run"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule of the memory model, as it has held since a version of PyTorch."""

    name: str
    operators: tuple[str, ...] = ()
    """Parts of the operator path of the events that the rule describes."""
    says: str
    source: str
    """Where PyTorch, or a library of its own, does it."""
    since: TorchVersion = OLDEST
    verified: str = EVENTS

    @property
    def label(self) -> str:
        """Name the rule, and the version from which it has held where that is not the oldest."""
        return self.name if self.since == OLDEST else f"{self.name} (since {self.since})"


MAXIMUM_COMPARES_LAST = Rule(
    name="maximum-backward",
    operators=("MaximumBackward0",),
    says="halves the gradient, compares for equality, selects, then compares for less",
    source="tools/autograd/derivatives.yaml: at::where(self == other, grad / 2, grad)"
    ".masked_fill_(self < other, 0)",
)
MAXIMUM_COMPARES_FIRST = Rule(
    name="maximum-backward",
    since=TorchVersion(2, 14),
    operators=("MaximumBackward0",),
    says="compares for less, then halves, compares for equality and selects; "
    "under a dispatch mode it fills out of place, which allocates one block more",
    source="tools/autograd/derivatives.yaml, read from the operators that a dispatch mode sees",
)
WORKSPACES_KEPT = Rule(
    name="cublas-workspace",
    says="one for each thread that multiplies, which stays; cuBLASLt shares it",
    source="aten/src/ATen/cuda/CublasHandlePool.cpp",
    verified=DRY_RUN,
)
WORKSPACES_FREED = Rule(
    name="cublas-workspace",
    since=TorchVersion(2, 15),
    says="one for each product, freed when it is done; cuBLASLt has a smaller one of its own",
    source="events of PyTorch's own allocator, operator by operator",
    verified=DRY_RUN,
)

STATE_ON_HOST = Rule(
    name="attention-random-state",
    says="memory-efficient attention keeps the random state in the CPU's memory",
    source="aten/src/ATen/native/transformers/cuda/attention.cu",
    verified=DRY_RUN,
)
STATE_ON_GPU = Rule(
    name="attention-random-state",
    since=TorchVersion(2, 14),
    says="keeps what stands for it without dropout in the GPU's memory: 16 bytes",
    source="events of PyTorch's own allocator",
    verified=DRY_RUN,
)
LARGE_BLOCKS = Rule(
    name="attention-blocks",
    says="memory-efficient attention of wide float32 heads works in blocks of 128 x 64",
    source="aten/src/ATen/native/transformers/cuda/mem_eff_attention/kernels",
    verified=DRY_RUN,
)
SMALL_BLOCKS = Rule(
    name="attention-blocks",
    since=TorchVersion(2, 14),
    says="in blocks of 64 x 64 on GPUs with 100 KiB of shared memory",
    source="events of PyTorch's own allocator",
    verified=DRY_RUN,
)
CUDA_RULES: tuple[Rule, ...] = (
    WORKSPACES_KEPT,
    WORKSPACES_FREED,
    STATE_ON_HOST,
    STATE_ON_GPU,
    LARGE_BLOCKS,
    SMALL_BLOCKS,
)
"""Rules that no step on the CPU exercises, so that ``harness doctor`` cannot check them."""

RULES: tuple[Rule, ...] = (
    Rule(
        name="parameters",
        operators=("aten::empty", "aten::zeros"),
        says="weight, then bias of each layer; then the batch and its labels",
        source="torch/nn/modules/linear.py: Linear.__init__",
    ),
    Rule(
        name="linear-forward",
        operators=("aten::linear", "aten::addmm"),
        says="the output alone; the bias is added in place",
        source="aten/src/ATen/native/Linear.cpp: linear",
    ),
    Rule(
        name="linear-backward",
        operators=("AddmmBackward0",),
        says="gradient of the input, of the weight, then of the bias",
        source="tools/autograd/derivatives.yaml: addmm",
    ),
    Rule(
        name="matmul-forward",
        operators=("aten::matmul", "aten::add"),
        says="the product, then its sum with the bias; the product is freed",
        source="aten/src/ATen/native/LinearAlgebra.cpp: matmul",
    ),
    Rule(
        name="matmul-backward",
        operators=("MmBackward0", "AddBackward0"),
        says="gradient of the bias, of the weight, then of the input",
        source="tools/autograd/derivatives.yaml: mm, add",
    ),
    Rule(
        name="activation-forward",
        operators=tuple(
            f"aten::{name}" for name in ("relu", "sigmoid", "tanh", "gelu", "silu", "leaky_relu")
        ),
        says="one output of the input's size; none in place",
        source="aten/src/ATen/native/Activation.cpp, UnaryOps.cpp",
    ),
    Rule(
        name="activation-backward",
        operators=tuple(
            f"{name}Backward0" for name in ("Relu", "Sigmoid", "Tanh", "Gelu", "Silu", "LeakyRelu")
        ),
        says="one gradient of the input's size; then what was saved is freed",
        source="tools/autograd/derivatives.yaml: relu, sigmoid, tanh, gelu, silu, leaky_relu",
    ),
    Rule(
        name="maximum-forward",
        operators=("aten::max", "aten::zeros_like"),
        says="zeros of the input's size, then the output; both operands are saved",
        source="aten/src/ATen/native/BinaryOps.cpp: maximum",
    ),
    MAXIMUM_COMPARES_LAST,
    MAXIMUM_COMPARES_FIRST,
    Rule(
        name="cross-entropy-forward",
        operators=("aten::cross_entropy_loss",),
        says="log-softmax of the logits, the loss and the total weight",
        source="aten/src/ATen/native/LossNLL.cpp: cross_entropy_loss",
    ),
    Rule(
        name="cross-entropy-backward",
        operators=("NllLossBackward0", "LogSoftmaxBackward0", "aten::ones_like"),
        says="the loss's gradient, that of the log-softmax, then that of the logits",
        source="aten/src/ATen/native/LossNLL.cpp, SoftMax.cpp",
    ),
    Rule(
        name="micro-batches",
        operators=("aten::div", "DivBackward0"),
        says="the loss divided by a number that is wrapped and cast; gradients are added in place",
        source="torch/csrc/autograd/functions/accumulate_grad.h",
    ),
    Rule(
        name="batch-norm",
        operators=("aten::batch_norm", "NativeBatchNormBackward0"),
        says="the output, mean and deviation of each unit, and sums of each thread",
        source="aten/src/ATen/native/Normalization.cpp, cpu/batch_norm_kernel.cpp",
    ),
    Rule(
        name="layer-norm",
        operators=("aten::layer_norm", "NativeLayerNormBackward0"),
        says="the output, mean and deviation of each row, and sums of each thread",
        source="aten/src/ATen/native/cpu/layer_norm_kernel.cpp",
    ),
    Rule(
        name="dropout",
        operators=("aten::dropout", "MulBackward0"),
        says="a mask of the input's own type, divided in place; then the product",
        source="aten/src/ATen/native/Dropout.cpp",
    ),
    Rule(
        name="sgd",
        operators=("Optimizer.step#SGD",),
        says="a clone of each gradient as momentum the first time; nothing later",
        source="torch/optim/sgd.py",
    ),
    Rule(
        name="adam",
        operators=("Optimizer.step#Adam",),
        says="two moments and a step counter of each parameter; its denominator, in turn",
        source="torch/optim/adam.py, adamw.py; ForeachOpsKernels.cpp",
    ),
    Rule(
        name="autocast-casts",
        operators=("aten::_to_copy", "ToCopyBackward0"),
        says="a cast of each weight, kept until autocast ends, and of each input",
        source="aten/src/ATen/autocast_mode.cpp: cached_cast",
    ),
    Rule(
        name="checkpointing",
        says="a segment keeps its input and the random state, and runs again in the backward pass",
        source="torch/utils/checkpoint.py: _checkpoint_without_reentrant_generator",
    ),
    Rule(
        name="saved-tensors",
        says="the bytes that autograd holds at the end of the forward pass",
        source="tools/autograd/derivatives.yaml",
        verified="saved-tensor hooks on the same workloads",
    ),
)


def rule_of(name: str, version: TorchVersion | None = None) -> Rule:
    """Return the rule called ``name`` as it holds in ``version``, by default the described one.

    >>> rule_of("maximum-backward", TorchVersion(2, 13)).says
    'halves the gradient, compares for equality, selects, then compares for less'
    """
    asked = version or described_version()
    return max(
        (rule for rule in (*RULES, *CUDA_RULES) if rule.name == name and rule.since <= asked),
        key=lambda rule: rule.since,
    )


def rules_in_force(version: TorchVersion | None = None) -> list[Rule]:
    """Return every rule as it holds in ``version``, in the order of the table."""
    names = dict.fromkeys(rule.name for rule in RULES)
    return [rule_of(name, version) for name in names]
