"""Runs a script, a module or a function on a pretended GPU, in a separate process."""

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from harness.dry_runs.child_process import run
from harness.dry_runs.computing import Compute
from harness.dry_runs.dry_run_report import DryRunReport
from harness.dry_runs.dry_run_request import Request
from harness.dry_runs.each_rank import RankRuns
from harness.dry_runs.lives import both_lives
from harness.dry_runs.node_host import on_nodes
from harness.dry_runs.other_runs import OtherRuns
from harness.dry_runs.pretended_gpu import PretendedGpu, pretended_gpu
from harness.dry_runs.run_folders import run_folder
from harness.dry_runs.value_answers import Answer, DryRunError, check_answers
from harness.prediction.gpu.catalogue import Gpu


def dry_run(
    target: str | Path | Callable[..., object],
    *arguments: object,
    gpu: str | Gpu | PretendedGpu | None = None,
    capability: str | None = None,
    memory_bytes: int | None = None,
    multiprocessors: int | None = None,
    gpus: int = 1,
    outside_bytes: int | None = None,
    host_memory_bytes: int | None = None,
    one_pool: bool | None = None,
    steps: int | None = None,
    snapshot: str | Path | None = None,
    answers: Mapping[str, Answer] | None = None,
    world_size: int | None = None,
    rank: int = 0,
    ranks: Sequence[int] | None = None,
    deadline_seconds: float | None = None,
    environment: Mapping[str, str] | None = None,
    module: bool = False,
    compare_eager: bool = False,
    quiet: bool = False,
    compute: Compute = "auto",
    write_files: bool = False,
    keep_files: str | Path | None = None,
    try_values: bool = True,
    unknown_passes: bool = False,
    resume: bool | Sequence[str] = False,
    **named: object,
) -> DryRunReport:
    """Run code on a pretended GPU and report the memory of PyTorch's CUDA allocator.

    If a decision of the code may depend on GPU values that the dry run cannot compute, the code
    runs again with other values. The report states the range of the peaks over all runs. To avoid
    further runs, give the values as ``answers``.

    Args:
        target: path of a script, name of a module (with ``module=True``), or a function that can be
            pickled. The target runs in a separate process.
        *arguments: arguments of the function, or the script's ``sys.argv[1:]``.
        gpu: name of a GPU in the catalogue, or a GPU object; the default is ``a100-40gb``.
        capability: compute capability of a GPU that is not in the catalogue, such as ``9.0``.
        memory_bytes: memory of the GPU, in bytes.
        multiprocessors: number of streaming multiprocessors of the GPU.
        gpus: number of identical GPUs in the machine.
        outside_bytes: GPU memory of the CUDA context and libraries; by default, a range is assumed.
        host_memory_bytes: size that host memory must not exceed; by default, the container's limit.
        one_pool: whether the GPU shares the host's memory; by default, as in the catalogue.
        steps: end the script after this many optimizer steps.
        snapshot: file for PyTorch's memory snapshot.
        answers: values for reads of unknown GPU values, by ``FILE:LINE``; the key ``*`` applies to
            all other lines. A value is a number, or the share of elements that a mask keeps
            (``all``, ``none`` or a fraction).
        world_size: number of pretended ranks; the harness replaces all ranks except ``rank``.
        rank: the rank that runs, counted from 0.
        ranks: ranks to run instead of ``rank``, each in a separate run; the report joins the runs.
        deadline_seconds: end the script after this many seconds.
        environment: environment variables in addition to this process's environment.
        module: whether ``target`` is a module's name, as for ``python -m``.
        compare_eager: whether to run a second time without ``torch.compile``, to compare peaks.
        quiet: whether to hide the script's output.
        compute: ``auto`` computes the values on the GPU with PyTorch's CPU kernels as far as a
            budget of time and memory allows, ``all`` computes all of them, ``none`` only a few.
        write_files: whether the script may change the user's files; unknown GPU values are
            made up. If False, the script writes into a file layer that is deleted after the run.
        try_values: whether to run again with other values if unknown values may affect a decision.
        unknown_passes: whether a test whose outcome depends on unknown values is reported as
            skipped; by default, it is reported as failed.
        keep_files: new or empty folder, to which the files that the script wrote are copied. Files
            that are not below the working folder go to its subfolder ``outside``.
        resume: True to start the script a second time with the files of the first start. To use
            other arguments in the second start, give these arguments instead of True.
        **named: keyword arguments of the function.

    Returns:
        The report; ``returned`` contains a function's result after a round trip through JSON.

    Raises:
        DryRunUnavailableError: a CUDA build of PyTorch, a C compiler or the stub is missing.
        DryRunError: an argument is invalid.
        StepError: the function or an argument cannot be pickled.
        GpuError: the GPU is unknown.

    >>> import harness, pathlib, tempfile
    >>> script = pathlib.Path(tempfile.mkdtemp()) / "train.py"
    >>> _ = script.write_text("import torch; torch.zeros(1000, device='cuda')")
    >>> report = harness.dry_run(script, gpu="l4")
    >>> report.outcome, report.devices[0].peaks.requested_peak_bytes
    (<Outcome.OK: 'ok'>, 4000)
    """
    check_answers(answers or {})
    if not isinstance(gpu, PretendedGpu):
        gpu = pretended_gpu(
            gpu,
            capability=capability,
            memory_bytes=memory_bytes,
            multiprocessors=multiprocessors,
            count=gpus,
            outside_bytes=outside_bytes,
            one_pool=one_pool,
        )
    kind: Literal["script", "module", "function"] = "module" if module else "script"
    text, function = str(target), b""
    if callable(target):
        from harness.processes.sent_objects import sent

        call = {"function": target, "arguments": arguments, "named": named}
        kind, text, function = "function", "function", sent(call)
        arguments = ()
    request = Request(
        gpu=gpu,
        kind=kind,
        target=text,
        function=function,
        arguments=tuple(map(str, arguments)),
        steps=steps,
        snapshot=None if snapshot is None else Path(snapshot),
        answers=dict(answers or {}),
        world_size=world_size,
        rank=rank,
        deadline_seconds=deadline_seconds,
        host_memory_bytes=host_memory_bytes,
        environment=dict(environment or {}),
        quiet=quiet,
        compute=compute,
        write_files=write_files,
        try_values=try_values,
        unknown_passes=unknown_passes,
        keep_files=None if keep_files is None else Path(keep_files),
        path=tuple(sys.path) if kind == "function" else (),
    )
    if ranks is not None and compare_eager:
        raise DryRunError("compare eager with one rank, not with several")
    if resume is not False:
        again = request.arguments if resume is True else tuple(resume)
        return both_lives(request, again, ranks)
    if ranks is not None:
        with RankRuns(request, ranks) as runs_of_ranks:
            return on_nodes(runs_of_ranks.answer(), gpu.count)
    with OtherRuns(request) as runs:
        report = on_nodes(runs.answer(), gpu.count)
    return _with_eager(report, request) if compare_eager else report


def _with_eager(report: DryRunReport, request: Request) -> DryRunReport:
    """Run again without ``torch.compile``, and add the peaks of this second run to the report."""
    environment = {**request.environment, "TORCHDYNAMO_DISABLE": "1"}
    again = dataclasses.replace(
        request, environment=environment, snapshot=None, keep_files=None, quiet=True
    )
    with run_folder() as folder:
        eager = run(again, folder)
    if eager.outcome != "ok":
        note = f"without torch.compile the run ended with {eager.outcome}: {eager.evidence}"
        report = report.with_note(note)
    return msgspec.structs.replace(report, eager=eager.cuda)
