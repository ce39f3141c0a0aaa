"""Finds errors in the name of a network without importing PyTorch."""

import importlib.util
import re
import symtable
import sys
import tokenize
import unicodedata
from pathlib import Path

from harness.schema.errors import StepError, did_you_mean

_MAKES_NAMES = re.compile(
    r"import\s*\(?\s*\*|\b(?:__getattr__|__dict__|globals|locals|vars|exec|setattr)\b"
)
"""Pattern for source code that may define names at run time."""


HUBS = {
    "hf": ("", ""),
    "timm": ("timm:create_model", "model_name"),
    "torchvision": ("torchvision.models:get_model", "name"),
}
"""For each hub, the function that builds a network, and the argument for the network's name."""


WEIGHTS = (".bin", ".ckpt", ".gguf", ".pt", ".pth", ".safetensors")
_NO_NETWORK = "a file of weights has no network; give the code that builds it"
MLPS = ("mlp", "mlp-scratch")
_SIZES = re.compile(r"(?P<depth>\d{1,9})[xX](?P<width>\d{1,12})|(?P<hidden>\d{1,12}(?:,\d{1,12})+)")


def mlp_of(target: object) -> dict[str, object] | None:
    """Return the fields of a ``Workload`` for a name such as ``mlp:8x256``; None for other names.

    >>> mlp_of("mlp:8x256")
    {'model': 'mlp', 'depth': 8, 'width': 256}
    >>> mlp_of("mlp-scratch:512,128")
    {'model': 'mlp-scratch', 'hidden': (512, 128)}
    """
    model, colon, sizes = target.partition(":") if isinstance(target, str) else ("", "", "")
    if model not in MLPS or not colon or sizes.isidentifier():  # a module called mlp has names
        return None
    match = _SIZES.fullmatch(sizes)
    if match is None:
        rule = "write mlp:DEPTHxWIDTH, e.g. mlp:8x256, or mlp:WIDTH,WIDTH, e.g. mlp:512,256"
        raise StepError(f"{target}: {rule}")
    if match["hidden"]:
        return {"model": model, "hidden": tuple(map(int, match["hidden"].split(",")))}
    return {"model": model, "depth": int(match["depth"]), "width": int(match["width"])}


EXPORT = "export it first: jupyter nbconvert --to script NOTEBOOK.ipynb"


def hub_of(target: object) -> str | None:
    """Return the hub of a name such as ``timm:vit_base_patch16_224``."""
    hub, _, name = target.partition(":") if isinstance(target, str) else ("", "", "")
    of_module = name == HUBS.get(hub, ("",))[0].rpartition(":")[2]
    return hub if hub in HUBS and name and not of_module else None


def check_target_name(target: str) -> None:
    """Raise ``StepError`` if a name such as ``my_model.py:Net`` does not exist.

    The check does not run the user's code, and accepts a name that may be defined at run time.
    """
    place, path = parts_of_name(target)
    kind = Path(place).suffix
    if kind == ".ipynb":
        raise StepError(f"{target}: a notebook cannot be imported; {EXPORT}")
    if kind in WEIGHTS:
        raise StepError(f"{target}: {_NO_NETWORK}, e.g. my_model.py:Net")
    if not place.endswith(".py"):
        _check_module(target, place.partition(".")[0])
    elif not Path(place).is_file():
        is_there = Path(place).exists()
        problem = f"{place} is no regular file" if is_there else f"there is no file {place}"
        raise StepError(f"{target}: {problem}")
    else:
        _check_name(target, Path(place), path.partition(".")[0])


def parts_of_name(target: str) -> tuple[str, str]:
    """Return the module or file in a name, and the dotted name after the colon."""
    if "://" in target:
        raise StepError(f"target {target!r} is an address; fetch it, then write FILE.py:CALLABLE")
    plain = unicodedata.normalize("NFKC", target)
    if ":" in plain and ":" not in target:  # of a keyboard for Chinese or Japanese
        raise StepError(f"target {target!r} has a colon that is not ':'; write {plain}")
    place, _, path = target.rpartition(":")
    if "::" in target:
        raise StepError(f"target {target!r} has two colons; write {target.replace('::', ':')}")
    if not (place and path):
        raise StepError(f"target {target!r} names no callable; {_way_out(target)}")
    return place, path


def _way_out(target: str) -> str:
    """Return advice on how to write a name that lacks a callable."""
    hub = target.removesuffix(":")
    if hub in HUBS:
        return f"write {hub}:NAME" + "_OR_FOLDER" * (hub == "hf")
    if hub in MLPS:
        return f"write {hub}:DEPTHxWIDTH, e.g. {hub}:8x256"
    if Path(target).suffix in WEIGHTS:
        return f"{_NO_NETWORK}, e.g. my_model.py:Net"
    if target.endswith(".py"):
        return f"write {target}:CALLABLE, or run a script: harness dry-run -- {target}"
    if target.endswith(".ipynb"):
        return f"a notebook cannot be imported; {EXPORT}"
    if Path(f"{target}.py").is_file():
        return f"write {target}.py:CALLABLE, or run a script: harness dry-run -- {target}.py"
    if "/" in target or "-" in target:
        return f"a model of Hugging Face is written hf:{target}"
    module, _, name = target.rpartition(".")
    here = f"; here {module}:{name}" if module and name.isidentifier() else ""
    if target.isidentifier():
        here = f"; a known network is written torchvision:{target}, timm:{target} or hf:{target}"
    return f"write MODULE:CALLABLE or FILE.py:CALLABLE, e.g. my_model.py:Net{here}"


def _check_module(target: str, name: str) -> None:
    sys.path.insert(0, str(Path.cwd()))
    try:
        known = name in sys.modules or importlib.util.find_spec(name) is not None
    except ValueError:  # a module without a spec
        known = True
    finally:
        sys.path.remove(str(Path.cwd()))
    if not known:
        near = [*HUBS, *MLPS, *(path.stem for path in Path().glob("*.py"))]
        hint = did_you_mean(name, near)
        raise StepError(f"{target}: there is no module {name!r} here or installed{hint}")


def _check_name(target: str, file: Path, name: str) -> None:
    try:
        with tokenize.open(file) as stream:
            text = stream.read()
        table = symtable.symtable(text, file.name, "exec")
    except (SyntaxError, ValueError) as error:
        raise StepError(f"{target}: {type(error).__name__}: {error}") from error
    if name not in table.get_identifiers() and not _MAKES_NAMES.search(text):
        own = [one.get_name() for one in table.get_symbols() if one.is_local()]
        raise StepError(f"{target}: {file} has no {name!r}{did_you_mean(name, own)}")
