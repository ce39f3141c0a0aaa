"""Executes the user's code as ``python script.py``, ``python -m module`` or Jupyter would."""

import builtins
import linecache
import pickle
import runpy
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import msgspec

from harness.dry_runs.dry_run_request import Request
from harness.dry_runs.notebook import Notebook
from harness.schema.plain_text import utf8_name


def run_code(job: Request, notebook: Notebook) -> object:
    """Run the target of a request; if it is a function, return its result."""
    sys.argv[:] = [job.target, *job.arguments]
    if job.kind == "script":
        _run_script(Path(job.target), notebook)
    elif job.kind == "module":
        sys.path.insert(0, str(Path.cwd()))
        _give_way(Path.cwd())
        runpy.run_module(job.target, run_name="__main__", alter_sys=True)
    else:
        sys.path[:] = job.path
        call = pickle.loads(job.function)
        return msgspec.to_builtins(call["function"](*call["arguments"], **call["named"]))
    return None


def _run_script(script: Path, notebook: Notebook) -> None:
    """Execute a file as the module ``__main__``; keep the module alive until the process ends."""
    if script.is_dir() or zipfile.is_zipfile(script):
        runpy.run_path(str(script), run_name="__main__")
        return
    main = ModuleType("__main__")
    main.__dict__.update(__file__=str(script), __builtins__=builtins, __cached__=None)
    sys.modules["__main__"] = main
    sys.path.insert(0, str(script.resolve().parent))
    _give_way(script.resolve().parent)
    if script.suffix == ".ipynb":
        notebook.run(script, main)
    else:
        name, text = utf8_name(str(script)), script.read_bytes()
        if name != str(script):  # PyTorch's recording of lines fails for names that are not UTF-8
            linecache.cache[name] = (0, None, text.decode(errors="replace").splitlines(True), name)
        exec(compile(text, name, "exec", dont_inherit=True), main.__dict__)


def _give_way(folder: Path) -> None:
    """Unload harness and msgspec modules if the user's folder has modules with these names."""
    for name in ("harness", "msgspec"):
        if Path(getattr(sys.modules.get(name), "__file__", None) or "").parent == folder / name:
            continue
        for loaded in [one for one in sys.modules if one.partition(".")[0] == name]:
            users = folder.joinpath(*loaded.split("."))  # ours stay: PyTorch's import loads more
            if users.is_dir() or users.with_suffix(".py").exists():
                del sys.modules[loaded]
