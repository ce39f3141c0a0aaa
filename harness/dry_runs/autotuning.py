"""Makes Inductor and Triton choose between kernels without timing the kernels.

On a GPU, the autotuner chooses the fastest kernel. In a dry run, the autotuner chooses ATen's
kernel or the first Triton configuration, and still makes the allocations that timing would need. If
``HARNESS_DRY_RUN_AUTOTUNE=triton`` is set, the autotuner chooses the first Triton template, which
can change the peak.
"""

import functools
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.dry_runs.compiled import Compilations, watch
from harness.dry_runs.library_notes import remember_autotuned
from harness.dry_runs.own_code import INDUCTOR_CACHE
from harness.prediction.after_import import after_import, instead

UNMEASURED: Counter[str] = Counter()
"""For each kind of choice between kernels, the number of choices that were made without timing."""

_CACHE = os.environ.get(INDUCTOR_CACHE)  # before a script changes it

VARIABLE = "HARNESS_DRY_RUN_AUTOTUNE"
_TAKES_TRITON = os.environ.get(VARIABLE) == "triton"


def _config(config: Any) -> None:
    """Turn off Inductor's cache of choices, so that every run allocates memory for autotuning."""
    config.autotune_local_cache = False


def _cache_dir_utils(module: Any) -> None:
    """Store pretended kernel times in the dry run's cache, even if the script has another cache."""

    @instead(module, "cache_dir")
    def cache_dir(find: Callable[[], str]) -> str:
        if _CACHE is not None:
            os.environ[INDUCTOR_CACHE] = _CACHE
        return find()


def _select_algorithm(module: Any) -> None:
    """Choose kernels for matmul, convolution and FlexAttention without compiling a template."""
    selector = module.AlgorithmSelectorCache
    benchmark_choice = selector.benchmark_choice

    def benchmark(cls: Any, choice: Any, arguments: Any) -> float:
        del cls
        extern = isinstance(choice, module.ExternKernelCaller)
        kind = type(choice).__name__
        firsts = vars(arguments).setdefault("harness_first", {})
        first = firsts.setdefault(kind, choice) is choice
        if extern or (first and kind == "SubgraphChoiceCaller"):
            benchmark_choice(choice, arguments)
        elif first:  # its inputs and output are there already, the buffer that flushes L2 is not
            from torch._inductor.runtime.benchmarking import benchmarker

            benchmarker.benchmark_gpu(lambda: None)
        if extern:
            return 2.0 if _TAKES_TRITON else 1.0
        # A template is fused with what follows if it takes less than both, measured at 1.0 each.
        return 1.5 if _TAKES_TRITON and first and kind == "TritonTemplateCaller" else 3.0

    @instead(selector, "lookup")  # a method of each version, called once for each choice
    def lookup(look_up: Any, self: Any, choices: Any, name: str, *more: Any, **named: Any) -> Any:
        timings = look_up(self, choices, name, *more, **named)
        if timings:
            taken = min(timings, key=timings.__getitem__)
            extern = isinstance(taken, module.ExternKernelCaller)
            which = "ATen" if extern else "the first Triton template"
            UNMEASURED[f"{name}: {which} of {len(timings)} kernels"] += 1
            if name.startswith("conv") and extern and len(timings) > 1:
                remember_autotuned()
        return timings

    selector.benchmark_choice = classmethod(benchmark)
    selector.benchmark_in_sub_process = selector.benchmark_in_current_process
    selector.make_precompile_fn = lambda *_, **__: dict


def _pad_mm(module: Any) -> None:
    """Count the decisions whether to pad a matmul; on a GPU, Inductor would time both variants."""
    module.get_cached_should_pad = lambda _: None
    module.get_cached_base_mm_benchmark_time = lambda _: None
    is_old = not hasattr(module, "is_padded_faster")  # up to torch 2.8

    @instead(module, "should_pad" if is_old else "is_padded_faster")
    def is_padded_faster(faster: Callable[..., bool], *arguments: Any) -> bool:
        padded = faster(*arguments)
        UNMEASURED["pad_mm: matmul not padded" if not padded else "pad_mm: padded"] += 1
        return padded


def _triton_codegen(module: Any) -> None:
    """Generate Triton kernels with one configuration; still allocate the memory for timing."""
    common = vars(module.TritonKernel)["inductor_meta_common"]  # static up to torch 2.8

    def inductor_meta_common(cls: Any) -> dict[str, object]:
        meta: dict[str, object] = common.__get__(None, cls)()
        if any(meta.get(name) for name in _TUNED):
            meta.update(dict.fromkeys(_TUNED, False), harness_tuned=True)
        return meta

    module.TritonKernel.inductor_meta_common = classmethod(inductor_meta_common)

    @instead(module.TritonScheduling, "benchmark_codegened_module")
    def benchmark_anew(benchmark: Any, self: Any, kernel: Any, *rest: Any, **named: Any) -> Any:
        Path(kernel.__file__).with_suffix(".kernel_perf").unlink(missing_ok=True)
        return benchmark(self, kernel, *rest, **named)


_TUNED = ("max_autotune", "max_autotune_pointwise", "coordinate_descent_tuning")
_FIRST_BLOCKS = "block sizes of a Triton kernel: the first configuration"


def _triton_heuristics(module: Any) -> None:
    """Run the timing code even for a single configuration, because this code allocates memory."""
    import torch

    @instead(module.CachingAutotuner, "autotune_to_one_config")
    def autotune_to_one_config(to_one: Any, *arguments: Any, **named: Any) -> Any:
        UNMEASURED[_FIRST_BLOCKS] += 1
        return to_one(*arguments, **named)

    @instead(module.CachingAutotuner, "run")
    def run_tuned(run: Any, self: Any, *arguments: Any, **named: Any) -> Any:
        is_template = "TEMPLATE" in str(self.heuristic_type)
        if self.inductor_meta.pop("harness_tuned", False) and not is_template:
            if not self.launchers:
                self.precompile()
            if len(self.launchers) == 1:
                UNMEASURED[_FIRST_BLOCKS] += 1
                timed = {name: value for name, value in named.items() if name != "stream"}
                self.bench(self.launchers[0], *arguments, **timed)
        return run(self, *arguments, **named)

    # The autotuner keeps a copy on the host of each tensor that the timed kernel changes. No size
    # depends on it, so the copy is allocated and not filled.
    @instead(module.CachingAutotuner, "copy_args_to_cpu_if_needed")
    def allocate_copies(copy: Any, self: Any, *arguments: Any, **named: Any) -> Any:
        torch.Tensor.copy_ = lambda self, *_, **__: self  # type: ignore[method-assign]
        try:
            return copy(self, *arguments, **named)
        finally:
            del torch.Tensor.copy_

    module.CachingAutotuner.restore_args_from_cpu = lambda *_: None


def _scheduler(module: Any) -> None:
    """Replace torch 2.7's estimate of memory bandwidth, because the stub reports no GPU clock."""
    if module.torch.__version__.startswith("2.7."):
        module.get_gpu_dram_gbps = lambda: float("inf")


def _triton_autotuner(module: Any) -> None:
    """Count the choices between configurations that ``@triton.autotune`` makes."""

    @instead(module.Autotuner, "_bench")
    def counted(bench: Any, self: Any, *arguments: Any, **named: Any) -> Any:
        name = getattr(self.base_fn, "__name__", "kernel")
        what = f"@triton.autotune of {name}: the first configuration (configurations timed)"
        UNMEASURED[what] += 1
        return bench(self, *arguments, **named)


AFTER_IMPORT: Mapping[str, Callable[[Any], None]] = {
    "torch._inductor.config": _config,
    "torch._inductor.runtime.cache_dir_utils": _cache_dir_utils,
    "torch._inductor.scheduler": _scheduler,
    "torch._inductor.select_algorithm": _select_algorithm,
    "torch._inductor.fx_passes.pad_mm": _pad_mm,
    "torch._inductor.codegen.triton": _triton_codegen,
    "torch._inductor.runtime.triton_heuristics": _triton_heuristics,
    "triton.runtime.autotuner": _triton_autotuner,
}
"""For each PyTorch or Triton module, the function that changes the module after its import."""


def watch_unmeasured(tell: Callable[[str], None]) -> Compilations:
    """Start watching ``torch.compile``, and make it choose kernels without timing them."""
    for name, function in AFTER_IMPORT.items():
        after_import(name, functools.partial(_change, function, tell))
    return watch(tell, UNMEASURED)


def _change(
    function: Callable[[Any], None], tell: Callable[[str], None], module: ModuleType
) -> None:
    """Change a PyTorch module; call ``tell`` with a warning if an expected attribute is missing."""
    try:
        function(module)
    except (AttributeError, KeyError) as error:
        tell(f"torch.compile may choose other kernels than a GPU would: {module.__name__}: {error}")
