"""Chooses a launcher; each starts one process per job and reports how it ended.

``ForkLauncher`` asks a primed fork server for a fork; ``SpawnLauncher`` starts a fresh
interpreter, for systems without fork. Neither imports torch: what this process holds would
show in its children's metrics. Both are used by one thread at a time; ``stop`` alone may come
from another.
"""

import sys

from harness.measurement.process.fork_launcher import GRACE_SECONDS, START_SECONDS, ForkLauncher
from harness.measurement.process.launch import Launcher, LaunchError
from harness.measurement.process.spawn_launcher import SpawnLauncher

__all__ = [
    "GRACE_SECONDS",
    "START_SECONDS",
    "ForkLauncher",
    "LaunchError",
    "Launcher",
    "SpawnLauncher",
    "default_launcher",
]


def default_launcher(malloc: str) -> Launcher:
    """Return the best launcher that this system has, for a malloc policy."""
    forks = sys.platform.startswith("linux")
    return ForkLauncher(malloc) if forks else SpawnLauncher(malloc)
