"""``harness gpus``: every name that it prints is one that ``--gpu`` takes."""

import json

from harness.prediction.gpu.catalogue import find
from tests.commands import Ask


def test_every_name_that_is_printed_is_taken(ask: Ask) -> None:
    answer = json.loads(ask(["gpus", "--json"]).out)
    machines = [
        name for one in answer["machines"] for some in one["names"].values() for name in some
    ]
    assert {"g5.xlarge", "a2-highgpu-1g", "p5.48xlarge"} < set(machines)
    assert all(one["source"] for one in (*answer["gpus"].values(), *answer["machines"]))
    text = ask(["gpus"]).out
    for name in (*answer["gpus"], *machines):
        assert name in text
        assert find(name).name in answer["gpus"]
