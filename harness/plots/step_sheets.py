"""Makes the ``Sheet`` of a predicted step, a traced step, a record or the verdicts on GPUs."""

from collections.abc import Mapping, Sequence
from functools import partial

from harness.plots.category_colours import CATEGORY_COLOURS
from harness.plots.sheet import Curve, Fold, Part, Sheet, ShownTable, sizes_table
from harness.plots.step_tables import blocks_table, layers_table, operators_table
from harness.plots.timeline import ShownBlock, Timeline
from harness.plots.traced_timeline import traced_timeline
from harness.schema.events import CATEGORIES
from harness.schema.host import Host
from harness.schema.memory_fit import GpuFit
from harness.schema.metrics_text import metrics_rows
from harness.schema.record import Outcome, Record
from harness.schema.step_report import StepReport
from harness.schema.step_request import StepRequest
from harness.schema.units import format_bytes


def record_sheet(record: Record) -> Sheet:
    """Return the sheet of a measurement, with the outcome and the metrics."""
    parts: list[Part] = []
    if record.outcome is not Outcome.OK:
        parts += _facts(record.evidence)
    else:
        parts.append(sizes_table("", metrics_rows(record)))
        if record.wall_seconds is not None:
            parts.append(f"a step takes {record.wall_seconds:.4g} s; peak in {record.peak_phase}")
        if (growth := record.growth).ends_bytes:
            parts += growth.lines(" over the repeats")
        parts += _host(record.host, str(record.environment.get("device")))
    head = f"{record.workload}: {record.outcome}"
    return Sheet(title=head, verdict=[head], parts=parts)


def prediction_sheet(report: StepReport, commands: Sequence[str] = ()) -> Sheet:
    """Return the sheet of a prediction, with the verdicts, the metrics and the layers."""
    lines = [*report.answers]
    tables: list[Part] = [layers_table(report)]
    metrics = sizes_table("", metrics_rows(report))
    if report.workload is not None:
        lines.append(f"{report.workload}: {report.outcome}, torch {report.torch}")
        tables.insert(0, metrics)
    else:
        tables.append(Fold("Largest blocks at the peak", [blocks_table(report)]))
        tables.append(Fold("Metrics", [metrics]))
        if report.peak_live_bytes is not None:
            lines.append(f"{report.subject}: {_peak_text(report)}; {report.method}")
            lines.append(f"at the peak: {_categories_text(report)}")
    first = len(report.answers) or 1
    return Sheet(
        title=report.subject,
        verdict=lines[:first],
        parts=[*lines[first:], *tables],
        notes=report.notes,
        timeline=partial(_timeline, report),
        curve=_curve(report),
        commands=commands,
    )


def profile_sheet(profile: StepReport, request: StepRequest, commands: Sequence[str] = ()) -> Sheet:
    """Return the sheet of a traced step, with the metrics and with tables of the peak."""
    trace = profile.trace
    title = f"{profile.subject}, {request.mode}, {request.optimizer}"
    head = f"{title}: {profile.outcome}"
    if profile.outcome is not Outcome.OK or trace is None:
        return Sheet(title=title, verdict=[head], parts=_facts(profile.evidence))
    share = temporary_share(profile)
    answer = f"peak {format_bytes(trace.peak_live_bytes)} in the {profile.peak_phase} phase"
    tables = (layers_table, operators_table, blocks_table)
    return Sheet(
        title=title,
        verdict=[answer if share is None else f"{answer}, {share:.1%} of it temporary"],
        parts=[
            head,
            sizes_table("", metrics_rows(profile)),
            *_host(profile.host, profile.method),
            *(table(profile) for table in tables),
        ],
        notes=profile.notes,
        timeline=partial(_timeline, profile),
        commands=commands,
    )


def temporary_share(report: StepReport) -> float | None:
    """Return the share of temporary blocks in the peak of live bytes; None if unknown."""
    if report.categories_at_peak is None or not report.peak_live_bytes:
        return None
    return report.categories_at_peak.temporary / report.peak_live_bytes


def gpus_sheet(report: StepReport) -> Sheet:
    """Return a sheet with the verdict, the reserved bytes and the largest batch of each GPU."""
    fits = report.gpus
    fitting = [fit.gpu for fit in fits if fit.verdict == "fits"]
    where = f"{len(fitting)} of {len(fits)} GPUs; the smallest is {fitting[0]}" if fitting else ""
    low, high = (size / 2**20 for size in fits[0].outside_bytes)
    answer = f"{report.subject}: fits on {where or 'no GPU'}"
    heads = ("GPU", "fits", ">memory", ">reserved peak", ">headroom", ">largest batch")
    return Sheet(
        title=answer,
        verdict=[answer],
        parts=[ShownTable(heads=heads, rows=[*map(_gpu_row, fits)])],
        notes=(f"{low:,.0f}–{high:,.0f} MiB are assumed for the CUDA context", *report.notes),
    )


def _gpu_row(fit: GpuFit) -> tuple[str, ...]:
    return (
        fit.gpu,
        fit.verdict,
        format_bytes(fit.total_bytes),
        fit.reserved_text,
        format_bytes(fit.headroom_bytes) if fit.headroom_bytes >= 0 else "none",
        f"{fit.largest_batch or 0:,}" if fit.is_searched else "not searched",
    )


def _facts(evidence: Mapping[str, object]) -> list[Part]:
    return [f"  {key}: {value}" for key, value in evidence.items()]


def _host(host: Host | None, source: str) -> list[Part]:
    return [] if host is None else [*host.lines(pretended=source.startswith("dry run"))]


def _categories_text(report: StepReport) -> str:
    parts = report.categories_at_peak
    sizes = {name.replace("_", " "): getattr(parts, name, 0) for name in CATEGORIES}
    return ", ".join(f"{name} {format_bytes(size)}" for name, size in sizes.items() if size)


def _peak_text(report: StepReport) -> str:
    text = f"peak {format_bytes(report.peak_live_bytes or 0)} in the {report.peak_phase} phase"
    if report.cuda is not None and report.cuda.reserved_peak_bytes is not None:
        text += f", reserved {format_bytes(report.cuda.reserved_peak_bytes)}"
    if report.saved_bytes is not None:
        text += f", saved for backward {format_bytes(report.saved_bytes)}"
    return text


def _curve(report: StepReport) -> Curve | None:
    fit = report.fit
    if fit is None or len(fit.tried) < 2:
        return None
    return Curve(
        name=fit.gpu,
        room=fit.total_bytes - fit.outside_bytes[1],
        points=fit.tried,
        batch=report.batch if report.workload is None else report.workload.batch,
        largest=fit.largest_batch,
        words="; ".join(filter(None, [fit.largest_batch_text, "each point is a batch tried"])),
    )


def _timeline(report: StepReport) -> Timeline:
    """Return the blocks of the step; without a trace, return one block per layer and category."""
    fit, limits = report.fit, []
    if fit is not None:
        room = fit.total_bytes - fit.outside_bytes[1]
        limits = [(f"room for PyTorch on {fit.gpu}", room)] * bool(fit.total_bytes)
    if report.budget is not None:
        limits.append(("budget", report.budget.budget_bytes))
    if report.trace is not None and report.trace.events:
        peak = None if report.cuda is None else report.cuda.reserved_peak_bytes
        return traced_timeline(report.trace, reserved=[peak] if peak else [], limits=limits)
    blocks = [
        ShownBlock(0, 1, size, category, layer.name, layer.kind)
        for layer in report.layers
        for category, size in (
            ("parameter", layer.parameter_bytes),
            ("activation", layer.saved_bytes),
        )
    ]
    if not any(block.size_bytes for block in blocks) and report.categories_at_peak is not None:
        sizes = ((name, getattr(report.categories_at_peak, name)) for name in CATEGORIES)
        blocks = [ShownBlock(0, 1, size, name, name.replace("_", " "), "") for name, size in sizes]
    shown = [(block, 1) for block in blocks if block.size_bytes]
    return Timeline(blocks=shown, events=range(1), colours=CATEGORY_COLOURS)
