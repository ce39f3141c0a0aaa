import json
import pickle
import xml.etree.ElementTree as ET
from typing import Any

import torch
from torch import nn
from torch.cuda import _memory_viz

from harness.profiling.exports import chrome_trace, memory_snapshot, svg_timeline
from harness.profiling.module_trace import trace
from harness.schema.events import CATEGORIES, Trace


def measured() -> Trace:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = torch.optim.Adam(model.parameters())
    with trace(model, optimizer=optimizer) as result:
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.ones(32, 8)).sum().backward()
            optimizer.step()
    return result.trace


def test_the_memory_viewer_reads_the_snapshot() -> None:
    whole = measured()
    snapshot = pickle.loads(memory_snapshot(whole))
    alive = {b.event.address: b.event.size_bytes for b in whole.alive_after(len(whole.events) - 1)}
    blocks = {b["address"]: b["size"] for s in snapshot["segments"] for b in s["blocks"]}
    assert blocks == alive
    # Its functions have no types. The sums are printed rounded: 20 blocks, 3.3 KiB.
    viewer: Any = _memory_viz
    assert f"segments: {len(blocks)}\n" in viewer.segsum(snapshot)
    assert "alloc" in viewer.trace(snapshot)
    assert "<script" in viewer.trace_plot(snapshot)
    assert "<script" in viewer.segment_plot(snapshot)


def test_a_replay_of_the_snapshot_gives_the_running_sum() -> None:
    whole = measured()
    live, sums = 0, []
    for action in pickle.loads(memory_snapshot(whole))["device_traces"][0]:
        if action["action"] in ("alloc", "free_completed"):
            live += action["size"] if action["action"] == "alloc" else -action["size"]
            sums.append(live)
    assert sums == whole.live_bytes


def test_the_counters_of_the_chrome_trace_add_up_and_phases_cover_every_event() -> None:
    whole = measured()
    rows = json.loads(chrome_trace(whole))["traceEvents"]
    counters = [row["args"] for row in rows if row["ph"] == "C"]
    assert [sum(counter.values()) for counter in counters] == whole.live_bytes
    assert set(counters[0]) == set(CATEGORIES)
    bars = [row for row in rows if row["ph"] == "X"]
    assert sum(bar["dur"] for bar in bars) == len(whole.events)
    assert {"build", "forward, step 2", "backward, step 2"} <= {bar["name"] for bar in bars}


def test_the_timeline_is_one_svg_without_script_that_shows_the_peak() -> None:
    whole = measured()
    text = svg_timeline(whole, most=40)
    root = ET.fromstring(text)
    titles = [node.text or "" for node in root.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == 41
    assert any(f": {max(whole.live_bytes):,} bytes" in title for title in titles)
    assert "<script" not in text
    assert "href" not in text
