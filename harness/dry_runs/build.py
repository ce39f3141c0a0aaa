"""Builds the stub that replaces CUDA's libraries, once per PyTorch build, in the user's cache.

The stub defines every function of CUDA and NVIDIA's libraries that PyTorch uses. C files in
``stub/cuda`` implement some functions of the stub. ``functions_by_name.py`` generates the code of
the stub's other functions from the functions' names.
"""

import contextlib
import functools
import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.dry_runs.functions_by_name import LIBRARIES, functions_by_name
from harness.dry_runs.stub_cache import kept
from harness.dry_runs.toolchain import DryRunUnavailableError, TorchBuild, compiler

SOURCES = Path(__file__).parent / "stub"

LIBRARY = "libharness_dry_run.so"

DRIVER = "libcuda.so.1", "libnvidia-ml.so.1"
"""File names of NVIDIA's driver libraries; empty libraries with these names link to the stub."""

VALUES = "libharness_values.so"
"""Library that tracks the values of GPU tensors (``stub/values/values.cpp``)."""

_FLAGS = ("-c", "-fPIC", "-O1", "-w", "-fno-builtin")

_PYTORCH = (
    "libtorch_cpu.so",
    "libc10_cuda.so",
    "libtorch_cuda.so",
    "libtorch_python.so",
    "libtorch_cuda_linalg.so",
    "libcaffe2_nvrtc.so",
    "libtorch_nvshmem.so",
)

COMPILER_SECONDS = 300
"""Limit of a compiler process's CPU time, in seconds; a normal build needs up to half a minute."""
_OUT_OF_TIME = (-signal.SIGXCPU, -signal.SIGKILL, 128 + signal.SIGXCPU)
MOST_BLOCKS = 1 << 17
"""Size limit of each file that the compiler writes, in blocks of 512 bytes."""


def build(torch: TorchBuild) -> Path:
    """Return the folder with the stub for a build of PyTorch; build the stub if needed."""
    return kept(f"{torch.version}-{_fingerprint(torch)}", functools.partial(_compile, torch))


def _fingerprint(torch: TorchBuild) -> str:
    """Return a short hash of the stub's sources, the stub's build code, and PyTorch's build."""
    text = hashlib.sha256(f"{torch.libraries} {torch.cuda}".encode())
    text.update(str((torch.libraries / "libtorch_cuda.so").stat().st_size).encode())
    own = Path(__file__), Path(functions_by_name.__code__.co_filename)
    for source in [*own, *sorted(p for p in SOURCES.rglob("*") if p.is_file())]:
        text.update(source.read_bytes())
    return text.hexdigest()[:12]


def _compile(torch: TorchBuild, folder: Path) -> None:
    """Compile the stub's sources and link the stub's libraries."""
    cc = compiler()
    include = [f"-I{path}" for path in (SOURCES, SOURCES / "cuda" / "include", *torch.include)]
    by_name = folder / "functions_by_name.c"
    by_name.write_text(functions_by_name(needed(torch.libraries)))
    sources = (*SOURCES.glob("*/*.c"), by_name)
    objects = {source: folder / f"{source.stem}.o" for source in sources}
    commands: list[list[str | Path]] = [
        [cc, *_FLAGS, *include, source, "-o", made] for source, made in objects.items()
    ]
    # NDEBUG is as in PyTorch's own builds: without it, structures of the headers differ.
    flags = ("-std=c++20", "-O1", "-DNDEBUG", "-fPIC", "-shared", "-w")
    headers = f"-I{SOURCES}", f"-I{torch.libraries.parent / 'include'}"
    libraries = (f"-L{torch.libraries}", "-ltorch_cpu", "-lc10")
    inputs = (*headers, SOURCES / "values" / "values.cpp", "-o", folder / VALUES)
    commands.append([compiler("C++"), *flags, *inputs, *libraries])
    with ThreadPoolExecutor() as pool:
        list(pool.map(_run, commands))
    _link_nvrtc(cc, objects.pop(SOURCES / "cuda" / "nvrtc.c"), torch, folder)
    library = folder / LIBRARY
    named = f"-Wl,-soname,{LIBRARY}"
    _run([cc, "-shared", "-fPIC", named, *objects.values(), "-o", library, "-lpthread", "-ldl"])
    for left in (*folder.glob("*.o"), folder / "nvrtc.versions", by_name):
        left.unlink()
    for name in DRIVER:  # programs look for these by name
        named = f"-Wl,-soname,{name},--no-as-needed"
        _run([cc, "-shared", "-fPIC", named, library, "-o", folder / name])
    (folder / "libcuda.so").symlink_to(DRIVER[0])


def _link_nvrtc(cc: str, made: Path, torch: TorchBuild, folder: Path) -> None:
    """Link a library that replaces NVRTC, with NVRTC's file name and symbol versions."""
    name = f"libnvrtc.so.{torch.cuda.partition('.')[0]}"
    versions = folder / "nvrtc.versions"
    versions.write_text(f"{name} {{ global: *nvrtc*; local: *; }};\n")
    options = [f"-Wl,-soname,{name}", f"-Wl,--version-script,{versions}"]
    _run([cc, "-shared", "-fPIC", made, *options, "-o", folder / name])


def preloaded(folder: Path) -> tuple[Path, ...]:
    """Return the stub's libraries that a process must load before all other libraries."""
    names = (LIBRARY, *DRIVER)
    return (*(folder / name for name in names), *folder.glob("libnvrtc.so.*"))


def needed(libraries: Path) -> frozenset[str]:
    """Return the names of NVIDIA's functions that PyTorch's libraries import or look up by name."""
    names = symbols([path for name in _PYTORCH if (path := libraries / name).exists()], "undefined")
    looked_up = re.findall(
        rb"\0((?:cu[A-Z]|nvml[A-Z])\w{3,60})(?=\0)", (libraries / "libc10_cuda.so").read_bytes()
    )
    names |= {text.decode() for text in looked_up}
    return frozenset(name for name in names if LIBRARIES.match(name))


def symbols(libraries: Iterable[Path], kind: str) -> set[str]:
    """Return the dynamic symbols of a ``kind`` (defined or undefined), without version suffixes."""
    nm = _run([compiler(), "-print-prog-name=nm"]).strip()
    if not nm:
        raise DryRunUnavailableError(f"{compiler()} made no library, and has no nm")
    listed = _run([nm, "-D", "--format=posix", f"--{kind}-only", *libraries])
    return {line.partition(" ")[0].partition("@")[0] for line in listed.splitlines()}


def _run(command: list[str | Path]) -> str:
    """Run a compiler command with limits on CPU time and file size; return the output."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        limits = f"ulimit -f {MOST_BLOCKS}; ulimit -t {COMPILER_SECONDS}"
        limited = ["/bin/sh", "-c", f'{limits}; exec "$0" "$@"', *command]
        process = subprocess.Popen(
            limited, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True
        )
        try:
            code = process.wait()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the compiler's own processes too
            process.wait()
            raise
        for file in (output, errors):
            file.seek(0)
        text = errors.read(1 << 16).decode(errors="replace")
        if code in _OUT_OF_TIME:
            raise _refused(command, f"no end after {COMPILER_SECONDS} seconds of processor time")
        if code:
            first = next((line for line in text.splitlines() if "error" in line), text[:300])
            raise _refused(command, first.strip() or f"exit code {code}")
        return output.read().decode(errors="replace")


def _refused(command: list[str | Path], why: str) -> DryRunUnavailableError:
    return DryRunUnavailableError(
        f"the stub cannot be compiled: {why}\nThe command was:"
        f" {' '.join(map(str, command))}\nPython {sys.version.split()[0]}"
    )
