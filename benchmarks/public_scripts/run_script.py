"""Run one script on a pretended GPU, and write its report as JSON.

python run_script.py FILE REQUEST: the arguments of ``harness.dry_run`` as JSON, with ``command``.
"""

import json
import sys
from pathlib import Path

import harness


def main() -> None:
    request = json.loads(sys.argv[2])
    script, *arguments = request.pop("command").split()
    report = harness.dry_run(script, *arguments, quiet=True, **request)
    Path(sys.argv[1]).write_text(report.to_json())


if __name__ == "__main__":
    main()
