"""Permissions and commands of the workflows of GitHub."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_may_only_read(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    actions = re.findall(r"uses: (\S+)@(\S+)", text)
    assert actions
    assert all(re.fullmatch(r"[0-9a-f]{40}", commit) for _, commit in actions), actions
    assert "\npermissions:\n  contents: read\n" in text
    checkouts = [name for name, _ in actions if name == "actions/checkout"]
    assert text.count("persist-credentials: false") == len(checkouts) > 0
    assert "pull_request_target" not in text
    for script in re.findall(r"run: (\.ci/\w+)", text):
        assert (ROOT / script).stat().st_mode & 0o111, script
