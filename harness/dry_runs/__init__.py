"""A CUDA build of PyTorch on a pretended GPU.

PyTorch's own allocator, dispatcher, autograd and optimizers run; only what lies below them (the
CUDA runtime, the driver, NVIDIA's libraries) is a stub that keeps the books and starts no kernel.
So the memory is that of a GPU, and a value read from the GPU is real only where it is known.

    after_import.py     Call a function with a module once it is imported
    assemble_report.py  The report of a dry run
    autotuning.py       Inductor's and Triton's choices between kernels
    build.py            Build the stub for the installed PyTorch, once
    child.py            The process that a dry run happens in
    child_process.py    The process of a dry run from outside
    compiled.py         Work of torch.compile in a dry run
    dry_run_page.py     The report of a dry run as a page
    dry_run_report.py   The result of a dry run as data
    dry_run_request.py  The request for a dry run, and answers to what it cannot know
    dry_run_text.py     The report of a dry run as text for a terminal
    for_workers.py      The harness's own workers on a pretended GPU
    functions_by_name.py  NVIDIA's functions that do nothing or refuse
    history.py          The moment of a peak and what was alive then
    host_growth.py      Growth of what the script keeps on the host
    host_memory.py      Memory of the host that a script and its workers take
    host_report.py      The host's part of the report
    kept_files.py       Files of the user that a script would have replaced
    kept_tensors.py     Tensors of the GPU to which names of the script lead
    left_out_values.py  Initial values of large tensors on the host
    library_notes.py    NVIDIA's libraries that were asked for sizes, in words
    nvidia_smi.py       nvidia-smi for the pretended GPUs
    own_code.py         Files of PyTorch, Python
    pretended_gpu.py    The GPU that a dry run pretends, and the environment variables that make it
    ranks.py            One rank of many in one process
    recording.py        Recording inside the process
    run.py              Run a script, a module or a function on a pretended GPU, in a process of
    script_search.py    The largest value of a script's argument with which it fits
    sent_objects.py     The user's Python objects as bytes for another process
    stub_cache.py       The folder that the built stub is kept in
    supervisor.py       The process between the harness and the script
    toolchain.py        Requirements of the dry run
    trial_values.py     Values that unknown reads get when a script runs again
    unknown_sizes.py    What depends on values nobody knows
    value_flow.py       The way of a value in the source
    value_reads.py      Values that are known, and reads of those that are not
"""

from harness.dry_runs.dry_run_report import DryRunReport
from harness.dry_runs.dry_run_request import DryRunError
from harness.dry_runs.pretended_gpu import PretendedGpu, pretended_gpu
from harness.dry_runs.run import dry_run
from harness.dry_runs.toolchain import DryRunUnavailableError

__all__ = [
    "DryRunError",
    "DryRunReport",
    "DryRunUnavailableError",
    "PretendedGpu",
    "dry_run",
    "pretended_gpu",
]
