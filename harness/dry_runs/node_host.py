"""Computes a node's host memory from the host memory of ranks that ran separately."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from harness.dry_runs.dry_run_report import DryRunReport
from harness.schema.host import ONE_POOL, Host, HostProcess
from harness.schema.memory_fit import fit_of


def on_nodes(report: DryRunReport, gpus: int) -> DryRunReport:
    """Replace a report's host memory by the host memory of the node with the highest peak.

    Args:
        report: report of one rank, or of several ranks.
        gpus: number of GPUs of a node; each GPU has one rank, unless there are fewer ranks.
    """
    nodes: dict[int, dict[int, Host]] = {}
    for one in report.ranks or (report,):
        if one.rank is not None and one.host is not None and one.host.limit_source != ONE_POOL:
            nodes.setdefault(one.rank // gpus, {})[one.rank] = one.host
    count = min(gpus, report.world_size or 1)
    if count == 1 or not nodes:
        return report
    sums = [host_of_node(ranks, count) for ranks in nodes.values()]
    return replace(report, host=max(sums, key=lambda one: one.peak_bytes[1]))


def host_of_node(ranks: Mapping[int, Host], count: int) -> Host:
    """Return the host memory of one node.

    Args:
        ranks: host memory of each rank that ran.
        count: number of ranks of the node. A rank that did not run is assumed to use between the
            minimum and the maximum of the ranks that ran.
    """
    hosts = list(ranks.values())
    first, missing = hosts[0], count - len(hosts)
    lows, highs = zip(*(one.peak_bytes for one in hosts), strict=True)
    low, high = sum(lows) + missing * min(lows), sum(highs) + missing * max(highs)
    limit = first.limit_bytes
    pinned = [one.pinned_bytes or (0, 0) for one in hosts]
    in_use, taken = (_most(missing, sizes) for sizes in zip(*pinned, strict=True))
    return replace(
        first,
        ranks=(len(hosts), count),
        peak_bytes=(low, high),
        processes=tuple(_as_process(rank, host) for rank, host in ranks.items()),
        file_bytes=max(one.file_bytes for one in hosts),
        shared_bytes=_most(missing, [one.shared_bytes for one in hosts]),
        pinned_bytes=(in_use, taken) if taken else None,
        unwritten_pinned_bytes=_most(missing, [one.unwritten_pinned_bytes or 0 for one in hosts]),
        left_out_bytes=_most(missing, [one.left_out_bytes for one in hosts]),
        harness_bytes=_most(missing, [one.harness_bytes or 0 for one in hosts]),
        fit=None
        if limit is None
        else fit_of(in_every_case=high <= limit, in_some_case=low <= limit),
    )


def _most(missing: int, sizes: Sequence[int]) -> int:
    return sum(sizes) + missing * max(sizes)


def _as_process(rank: int, host: Host) -> HostProcess:
    size = host.peak_bytes[1]
    return HostProcess(name=f"rank {rank}", peak_bytes=size, own_bytes=size, first_own_bytes=size)
