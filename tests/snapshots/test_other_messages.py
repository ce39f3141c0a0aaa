"""Messages of other programs get a cause and something to change; words alone get neither."""

import io

import pytest

from harness.snapshots.explain_source import explain_log, is_message
from harness.snapshots.file_bytes import SnapshotError
from harness.snapshots.log_text import Log, read_log

# ruff: noqa: E501, ISC004 -- messages are quoted as they are
VLLM = (
    "16.00 GiB KV cache is needed, which is larger than the available KV cache memory (4.21 GiB). "
    "Based on the available memory, the estimated maximum model length is 1024."
)
CPU = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 137438953472 bytes."
WINDOWS = "data. DefaultCPUAllocator: not enough memory: you tried to allocate 9437184 bytes."
MPS = (
    "RuntimeError: MPS backend out of memory (MPS allocated: 5.44 GB, other allocations: 1.29 GB, "
    "max allowed: 6.80 GB). Tried to allocate 256.00 MB on private pool. Use"
)
CGROUP = (
    "[12345.678901] Memory cgroup out of memory: Killed process 4242 (python3) "
    "total-vm:104857600kB, anon-rss:33554432kB, file-rss:1024kB, shmem-rss:0kB, UID:1000"
)
KERNEL = "Out of memory: Killed process 77 (pt_main_thread) total-vm:9kB, anon-rss:2048kB"
SLURM = "slurmstepd: error: Detected 1 oom_kill event in StepId=4242.0. Some of the step tasks"
VLLM_START = (
    "ValueError: Free memory on device (20.11/21.96 GiB) on startup is less than desired GPU memory "
    "utilization (0.92, 20.2 GiB). Decrease GPU memory utilization or reduce GPU memory used by"
)
KILLED = "killed by the kernel"
MIG = 'NVML_SUCCESS == r INTERNAL ASSERT FAILED at "../c10/cuda/CUDACachingAllocator.cpp":830'


@pytest.mark.parametrize(
    ("line", "cause", "change"),
    [
        (
            "Accelerator Fatal Error: call to cuMemAlloc returned error 2 (CUDA_ERROR_OUT_OF_MEMORY)",
            "OpenACC",
            "this OpenACC program",
        ),
        (VLLM, "KV cache of vLLM", "needs 16.00 GiB of KV cache for one request of the longest"),
        (f"RuntimeError: [enforce fail] {CPU} Error code 12", "CPU memory", "128 GiB of the CPU's"),
        (WINDOWS, "CPU memory", "9 MiB of the CPU's"),
        (MPS, "MPS limit", "PYTORCH_MPS_HIGH_WATERMARK_RATIO"),
        (CGROUP, KILLED, "process 4242 (python3), which held 32 GiB: its memory cgroup's limit"),
        (f"host kernel: {KERNEL}", KILLED, "the machine's memory was exhausted"),
        (SLURM, KILLED, "exceeded the CPU memory that it had asked for"),
        ("No available memory for the cache blocks. Try", "KV cache of vLLM", "--gpu-memory-utili"),
        ("node1: [1] NCCL WARN Cuda failure 2 'out of memory'", "NCCL's buffers", "NCCL_BUFFSIZE"),
        ("ggml_backend_cuda: cudaMalloc failed: out of memory", "llama.cpp", "-ngl"),
        ("[launch.py] process 7 exits with return code = -9", "ended by signal 9", "dmesg"),
        ("  exitcode  : -9 (pid: 31)", "ended by signal 9", "dmesg"),
        ("Bus error. It is possible that workers are out of shared memory", "shared memory", "shm"),
        ("XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes", "JAX", "donate"),
        ("OOM when allocating tensor with shape[64,224] and type float", "TensorFlow", "[64,224]"),
        ("(GPU_0_bfc) ran out of memory trying to allocate 2.50GiB", "TensorFlow", "of 2.50GiB"),
        ("torch.AcceleratorError: CUDA error: out of memory", "CUDA itself", "snapshot"),
        ("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`", "CUDA itself", "snapshot"),
        ("numpy._core._exceptions._ArrayMemoryError: Unable; MemoryError", "CPU memory", "workers"),
        (VLLM_START, "start of vLLM", "20.11 of 21.96 GiB were free"),
        (
            "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.",
            "SGLang",
            "--context-length",
        ),
        (
            "Error: model requires more system memory (12.7 GiB) than is available (9.1 GiB)",
            "Ollama",
            "requested: 12.7 GiB",
        ),
        (
            "Warning  Evicted  kubelet  The node was low on resource: memory. Threshold quantity",
            "evicted by Kubernetes",
            "resources.requests.memory",
        ),
        (
            "triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 147456, "
            "Hardware limit: 101376.",
            "shared memory of the GPU's cores",
            "requested: 144 KiB",
        ),
        (
            "[TensorRT-LLM][ERROR] CUDA runtime error in cudaMallocAsync(ptr, n, mMemPool->getPool(), "
            "stream): out of memory (/src/tensorrt_llm/runtime/tllmBuffers.h:112)",
            "TensorRT-LLM",
            "free_gpu_memory_fraction",
        ),
        (
            "Task was killed due to the node running low on memory.",
            "killed by Ray",
            "RAY_memory_usage_threshold",
        ),
        (
            "RuntimeError: Unable to find a valid cuDNN algorithm to run convolution",
            "cuDNN's workspace",
            "batch size",
        ),
        (
            "Failed to CUDA calloc async 2432 bytes / out of memory",
            "NCCL's buffers",
            "requested: 2.375 KiB",
        ),
        (
            "(0) Resource exhausted: Out of memory while trying to allocate 68852648264 bytes.",
            "TensorFlow",
            "requested: 64.12 GiB",
        ),
        (
            "RESOURCE_EXHAUSTED: Attempting to reserve 6.48G at the bottom of memory. That was not "
            "possible. There are 6.78G free, 0B reserved, and 3.33G reservable.",
            "TPU",
            "in one piece",
        ),
        ("RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "CUDA itself", "snapshot"),
        ("CudaAPIError: [2] cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY", "CUDA itself", "snap"),
        ("Error: Process completed with exit code 137.", "ended by signal 9", "dmesg"),
        ("Killed", "ended by signal 9", "dmesg"),
        ("run.sh: line 3:  4242 Killed                  python train.py", "ended by signal 9", "-"),
        (
            "XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory allocating 34359738368 bytes.",
            "JAX",
            "requested: 32 GiB",
        ),
        (
            "allocating 38080.00 MiB on device 0: cudaMalloc failed: out of memory",
            "llama.cpp",
            "requested: 37.19 GiB",
        ),
        (
            "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 29.8 GiB for an array with "
            "shape (4000000000,) and data type float64",
            "CPU memory",
            "requested: 29.8 GiB",
        ),
        (
            "ValueError: The model's max seq len (4096) is larger than the maximum number of tokens that can be stored in KV cache (3664).",
            "KV cache of vLLM",
            "room for 3664 tokens, and one request may have 4096",
        ),
        (
            "[W] [TRT] Requested amount of GPU memory (15485030400 bytes) could not be allocated.",
            "TensorRT",
            "requested: 14.42 GiB",
        ),
        (
            "Cuda Error in nvinfer1::internal::DefaultAllocator::allocate: 2 (out of memory)",
            "TensorRT",
            "memPool",
        ),
        (
            "Error Code 2: OutOfMemory (Requested size was 16581132288 bytes.)",
            "TensorRT",
            "requested: 15.44 GiB",
        ),
        (
            "bfc_arena.cc:331 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool) Failed to allocate memory for requested buffer of size 8388608000",
            "ONNX Runtime",
            "requested: 7.812 GiB",
        ),
        (
            "Out of memory error on GPU 0. Cannot allocate 98.000244MB memory on GPU 0, 6.000000GB memory has been allocated and available memory is only 0.000000B.",
            "PaddlePaddle",
            "wanted 98.000244MB, and 0.000000B of the GPU were free",
        ),
        (
            "cupy.cuda.memory.OutOfMemoryError: Out of memory allocating 25,600,000 bytes (allocated so far: 3,635,267,072 bytes).",
            "CuPy",
            "wanted 25,600,000 bytes, and its pool held 3,635,267,072 bytes",
        ),
        (
            "OutOfMemoryError: out of memory to allocate 250092544 bytes (total 10824923136 bytes)",
            "CuPy",
            "250092544",
        ),
        (
            "Memory allocation error on worker 0: std::bad_alloc: cudaErrorMemoryAllocation: out of memory",
            "XGBoost or RAPIDS",
            "max_bin",
        ),
        (
            "what(): std::bad_alloc: out_of_memory: CUDA error at: cuda_memory_resource.hpp",
            "XGBoost or RAPIDS",
            "GPU",
        ),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "CPU memory", "ulimit"),
        (
            "Current platform can NOT allocate memory block with size larger than 4GB! Tried to allocate 5.46 GiB (GPU  0; 15.56 GiB total capacity)",
            "size of one block",
            "requested: 5.46 GiB",
        ),
        (
            "OSError: [WinError 1455] The paging file is too small for this operation",
            "Windows' paging file",
            "workers",
        ),
        ("safetensors: in a foreign language (os error 1455)", "Windows' paging file", "enlarge"),
        (
            "ggml_vulkan: Device memory allocation of size 118497280 failed.",
            "llama.cpp",
            "requested: 113 MiB",
        ),
        (
            "ggml_vulkan: Requested buffer exceeds the limit: ErrorOutOfDeviceMemory",
            "llama.cpp",
            "-ngl",
        ),
        (
            "rocm_driver.cc:600] failed to allocate 890.06M (933298432 bytes) from device: HIP_ERROR_OutOfMemory",
            "TensorFlow",
            "requested: 890.1 MiB",
        ),
    ],
)
def test_a_message_of_another_program_is_explained(line: str, cause: str, change: str) -> None:
    report = explain_log(Log(text=f"step 12\n{line}\n"))
    assert report.facts["cause"] == cause
    assert change in report.text
    assert "line 2" in report.text
    read = explain_log(read_log(io.BytesIO(f"{'step 12' * 9}\n{line}\n".encode())))
    assert read.facts["cause"] == cause, "the reader of a file keeps the line"
    assert is_message(line), "and so it can be given in quotes"


BFC = "external/xla/xla/tsl/framework/bfc_allocator.cc:501] Allocator (GPU_0_bfc) ran out of memory"
JAX_LOG = f"""2026-11-29 10:00:00.1: W {BFC} trying to allocate 32.00GiB (rounded to 34359738368)
    y = f(x)
jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory allocating 34359738368 bytes
"""
TENSORFLOW_LOG = """W tensorflow/core/framework/op_kernel.cc:1842] OP_REQUIRES failed at conv_ops.cc
W : RESOURCE_EXHAUSTED: OOM when allocating tensor with shape[64,224,224,64] and type float on /job
tensorflow.python.framework.errors_impl.ResourceExhaustedError: OOM when allocating tensor with shape\
[64,224,224,64]
"""


@pytest.mark.parametrize(("text", "cause"), [(JAX_LOG, "JAX"), (TENSORFLOW_LOG, "TensorFlow")])
def test_what_a_program_says_twice_of_one_request_is_one_failure(text: str, cause: str) -> None:
    report = explain_log(Log(text=text))
    assert report.facts["cause"] == cause
    failures = report.facts["failures"]
    assert isinstance(failures, list)
    assert len(failures) == 1
    far = explain_log(Log(text=text + "step\n" * 40 + text))
    assert "2 out-of-memory failures" in far.text or "written 2 times" in far.text


def test_the_limit_of_a_container_is_said_where_kubernetes_lists_it() -> None:
    text = """    State:          Terminated
      Reason:       OOMKilled
      Exit Code:    137
    Limits:
      cpu:     8
      memory:  16Gi
"""
    assert "container's limit was 16 GiB" in explain_log(Log(text=text)).text


def test_pytorch_and_the_kernel_come_first() -> None:
    report = explain_log(Log(text=f"MemoryError\n{KERNEL}\nexitcode : -9\n"))
    assert report.facts["cause"] == KILLED


@pytest.mark.parametrize(
    ("text", "why"), [("CUDA out of memory", "have no numbers"), (MIG, "a MIG instance")]
)
def test_words_without_numbers_explain_nothing_and_say_what_to_give(text: str, why: str) -> None:
    with pytest.raises(SnapshotError, match=why):
        explain_log(Log(text=text))


@pytest.mark.parametrize("text", ["memory is fine, signal 15", "code -90", "a SIGKILLER", ""])
def test_other_words_are_no_failure(text: str) -> None:
    with pytest.raises(SnapshotError, match="no out-of-memory message"):
        explain_log(Log(text=text))
