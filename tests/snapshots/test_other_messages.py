"""Messages of other programs get a cause and something to change; words alone get neither."""

import pytest

from harness.snapshots.explain_source import explain_log
from harness.snapshots.file_bytes import SnapshotError
from harness.snapshots.log_text import Log

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
KILLED = "killed by the kernel"
MIG = 'NVML_SUCCESS == r INTERNAL ASSERT FAILED at "../c10/cuda/CUDACachingAllocator.cpp":830'


@pytest.mark.parametrize(
    ("line", "cause", "change"),
    [
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
    ],
)
def test_a_message_of_another_program_is_explained(line: str, cause: str, change: str) -> None:
    report = explain_log(Log(text=f"step 12\n{line}\n"))
    assert report.facts["cause"] == cause
    assert change in report.text
    assert "line 2" in report.text


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
