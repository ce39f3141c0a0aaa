"""Makes an environment and installs the harness into it, editable; tells what it does.

    python3 .ci/install.py ENVIRONMENT [EXTRA,EXTRA] [REQUIREMENT ...]

uv installs, where it is on the path or pip brings it into the environment; else pip. Both follow
the configuration of pip: its files and variables, such as PIP_CONSTRAINT and PIP_FIND_LINKS.
Needs nothing but the standard library. Its last step loads PyTorch once: modules are compiled when
they are imported first, which several processes would else do at the same time.
"""

import ast
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

OLDEST = (3, 11)
BEAT_SECONDS = 5
OF_UV = {
    "index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "find-links": "UV_FIND_LINKS",
    "constraint": "UV_CONSTRAINT", "no-index": "UV_NO_INDEX", "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE", "pre": "UV_PRERELEASE", "no-cache-dir": "UV_NO_CACHE",
}  # fmt: skip
"""Settings of pip, and the variables in which uv takes the same."""
LOADED = "import torch._dynamo, torchvision, pandas, matplotlib.pyplot, scipy.stats, harness"


def main() -> int:
    """Install; return the exit code."""
    if sys.version_info < OLDEST:
        have = ".".join(map(str, sys.version_info[:2]))
        print(f"Python 3.11 or newer is needed, this is {have}: make PYTHON=python3.12")
        return 2
    folder, extras, *others = [*sys.argv[1:], ""] if len(sys.argv) == 2 else sys.argv[1:]
    begun = time.monotonic()
    is_first = not Path(folder, ".installed").exists()
    python = Path(folder, "bin", "python")
    if not python.exists():
        made = make_environment(folder)
        if made:
            return made
    wanted = ["--editable", f".[{extras}]" if extras else ".", *others]
    code = install(python, wanted)
    if code == 0 and is_first:
        code = run([python, "-c", LOADED], "PyTorch is loaded once, which compiles its modules")
    if code == 0:
        for stamp in ["", *(f"-{extra}" for extra in extras.split(",") if extra)]:
            Path(folder, f".installed{stamp}").touch()
        print(f"{folder} is ready after {time.monotonic() - begun:.0f} s", flush=True)
    return code


def make_environment(folder: str) -> int:
    """Make an environment with pip in it."""
    doing = f"the environment {folder} is made"
    uv = shutil.which("uv")
    if uv is not None:
        return run([uv, "venv", "--quiet", "--seed", "--python", sys.executable, folder], doing)
    code = run([sys.executable, "-m", "venv", folder], doing)
    if code:
        print("On Debian and Ubuntu this needs: apt-get install python3-venv", flush=True)
    return code


def install(python: Path, wanted: list[str]) -> int:
    """Install by uv, or by pip where uv cannot be had or finds no solution."""
    said = subprocess.run(
        [python, "-m", "pip", "config", "list"], stdout=subprocess.PIPE, text=True, check=False
    ).stdout
    settings = uv_variables(said)
    uv = shutil.which("uv") or bootstrapped(python)
    if uv is not None:
        command = [uv, "pip", "install", "--python", python, *wanted]
        if run(command, "uv installs PyTorch and the rest, some GB", settings) == 0:
            return 0
        print("uv did not install it (above); pip tries", flush=True)
    command = [python, "-m", "pip", "install", "--no-compile", *wanted]
    return run(command, "pip installs PyTorch and the rest, some GB")


def bootstrapped(python: Path) -> str | None:
    """Return the uv of the environment, which pip installs; None where the index has none."""
    own = python.with_name("uv")
    if not own.exists():
        command = [python, "-m", "pip", "install", "--quiet", "--no-compile", "uv"]
        run(command, "pip installs uv, which is faster")
    return str(own) if own.exists() else None


def uv_variables(listed: str) -> dict[str, str]:
    """Return the environment of uv: ours, and the settings that ``pip config list`` printed.

    Variables count more than files, as for pip. Of several indices pip takes the best version.
    """
    found = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        name, equals, value = line.partition("=")
        variable = OF_UV.get(name.rpartition(".")[2])
        if equals and variable:
            text = str(ast.literal_eval(value))
            found[variable] = "allow" if variable == "UV_PRERELEASE" else " ".join(text.split())
    if "UV_FIND_LINKS" in found:  # uv separates by commas
        found["UV_FIND_LINKS"] = found["UV_FIND_LINKS"].replace(" ", ",")
    return found | dict(os.environ)


def run(command: list[str | Path], doing: str, environment: dict[str, str] | None = None) -> int:
    """Run a command; in a pipe print a line every five seconds while it says nothing."""
    print(f"{doing}", flush=True)
    ended = threading.Event()
    if not sys.stdout.isatty():
        threading.Thread(target=_beat, args=(doing, ended), daemon=True).start()
    try:
        variables = {**(environment or os.environ), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        variables.pop("PYTHONDONTWRITEBYTECODE", None)
        return subprocess.run(command, env=variables, check=False).returncode
    except KeyboardInterrupt:
        return 130
    finally:
        ended.set()


def _beat(doing: str, ended: threading.Event) -> None:
    begun = time.monotonic()
    while not ended.wait(BEAT_SECONDS):
        print(f"[{time.monotonic() - begun:.0f} s] {doing}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
