"""Generates C code for functions of CUDA's libraries that no file of the stub implements.

A function whose name matches a rule returns success and does no GPU work. Each other function
returns an error and records its own name, so that no unknown function goes unnoticed.
"""

import re
from collections.abc import Iterable

LIBRARIES = re.compile(
    r"_*cuda[A-Z]|cu[A-Z]|cublas|cudnn|cusolver|cusparse|cufft|cupti|nvml|nccl[A-Z]"
)
"""Pattern that matches the names of functions in CUDA and in NVIDIA's libraries."""

LOOKED_UP = """
    __cudaInitModule __cudaRegisterManagedVar cuCtxSetLimit cuFuncSetCacheConfig cuGetErrorName
    cuKernelGetAttribute cuKernelSetAttribute cuLibraryLoadData cuLibraryLoadFromFile
    cuLibraryUnload cuLinkAddData cuLinkCreate cuLinkDestroy cuOccupancyMaxPotentialClusterSize
    cuStreamGetCtx cublasLtCreate
    cudaDeviceSetLimit cudaFuncSetCacheConfig cudaMemAdvise cudaMemPrefetchAsync cudnnDestroy
    nvmlErrorString nvmlInit nvmlInit_v2 nvmlShutdown
"""
"""Functions that Triton, cuDNN or a script looks up, but PyTorch's libraries do not import."""

_SUCCEEDS = "int {name}(void) {{ return 0; }}"
_WRITES = "int {name}(void) {{ pretend_wrote(); return 0; }}"
_MAKES = "int {name}(void **made) {{ *made = pretend_handle(); return 0; }}"
_ANSWERS_0 = "int {name}(void *handle, int *value) {{ *value = 0; return 0; }}"
_ERROR_TEXT = 'const char *{name}(int error) {{ return error ? "{refused}" : "success"; }}'
_REFUSES = 'int {name}(void) {{ pretend_unsupported("{name}"); return {code}; }}'

_RULES = [
    (re.compile(pattern), body)
    for pattern, body in (
        ("(cudnn|cusparse)GetErrorString|nvmlErrorString", _ERROR_TEXT),
        ("cublasGet.*Mode|cudaStreamGetPriority|ncclCommGetAsyncError", _ANSWERS_0),
        (r"cu(blas|solver|sparse)\w*Create(?!Identity)|cudnnCreate|cuptiSubscribe", _MAKES),
        ("cuda(Event|Stream)Create|cuModule(Load(Data)?$|Get)", _MAKES),
        ("cuLibraryLoadData", _MAKES),
        # Everything on a stream is done at once. Kernels are registered when PyTorch is loaded.
        ("cuda(Event|Stream)(Query|Synchronize)|cudaProfilerSt|cudaDeviceSetL", _SUCCEEDS),
        ("cudaMem(PrefetchAsync|Advise)", _SUCCEEDS),
        ("__cuda(Register|Unregister|Init|Push|Pop)|cuda(Func|Kernel)Set|cudaThreadE", _SUCCEEDS),
        ("cuMem(Map|Unmap|SetAccess)|cuCtx(Set|Push|Pop)|cuFuncSet|nvml(Init|Shut)", _SUCCEEDS),
        ("cu(Module|Library)Unload|cuLibraryLoadFromFile|cuKernel[GS]etAttribute", _SUCCEEDS),
        ("cuLink(AddData|Create|Destroy)$|cuLogs|cuGetErrorName|cuStreamGetCtx|cuOcc", _SUCCEEDS),
        ("cudnn(Set(?!Dropout)|Restore|Destroy)|cufft(Set|Destroy)|cupti", _SUCCEEDS),
        (r"cusparse\w*(?<!Lt)(Set|Destroy)|cuda(Event|Stream|Graph|GraphExec)Destroy", _SUCCEEDS),
        ("ncclComm(Dereg|Fin|Register)", _SUCCEEDS),
        # These work on given memory alone.
        ("cublas|cusolver(?!.*bufferSize)|cufftXtExec|cudaMemcpy|cuMemsetD32Async", _WRITES),
        ("cudnn(Conv|BatchNorm|RNN|CTC|Pooling|SpatialTf|SetDropout)", _WRITES),
        ("cusparse(SpM[MV]|SDDMM|Xc|CreateIdentity)(?!.*bufferSize|.*Nnz)", _WRITES),
    )
]  # fmt: skip
"""Patterns of function names, with the C code of the functions; the first match is used."""

_NOT_SUPPORTED = {"cudnn": 3000, "cusolver": 9, "cusparse": 10, "cufft": 16, "nccl": 5}
"""Error code of each library for an unsupported call; CUDA's own code is 801."""


def functions_by_name(names: Iterable[str]) -> str:
    """Return C code that defines functions as weak symbols; other source files can replace them."""
    lines = ["void *pretend_handle(void);", "void pretend_wrote(void);"]
    lines.append("void pretend_unsupported(const char *function);")
    for name in sorted({*names, *LOOKED_UP.split()}):
        body = next((body for rule, body in _RULES if rule.match(name)), _REFUSES)
        code = next((c for prefix, c in _NOT_SUPPORTED.items() if name.startswith(prefix)), 801)
        text = body.format(name=name, code=code, refused="not supported by harness dry-run")
        lines.append(f"__attribute__((weak)) {text}")
    return "\n".join([*lines, ""])
