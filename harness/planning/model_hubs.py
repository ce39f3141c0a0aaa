"""Builds networks that are named ``hf:NAME``, ``timm:NAME`` or ``torchvision:NAME``.

A Hugging Face network is built from ``config.json`` without its pretrained weights. The file
``config.json`` comes from a local folder, from Hugging Face's cache, or from the hub.
"""

import importlib.util
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.planning.token_labels import labelled
from harness.schema.errors import StepError, did_you_mean
from harness.schema.step import Step
from harness.schema.target_name import HUBS, hub_of

if TYPE_CHECKING:
    from torch import nn

LENGTH = 1024
"""Default number of tokens per example, unless the network's limit is lower."""
_SECONDS = 10
_NO_MODEL = "there is no such model, or it is private and needs HF_TOKEN or: hf auth login"
_REFUSALS: Mapping[str | int, str] = {
    **dict.fromkeys(("RepoNotFound", 401, 404), _NO_MODEL),
    "EntryNotFound": "it has no config.json",
    "GatedRepo": "accept its terms at {page}, then set HF_TOKEN or run: hf auth login",
}
"""Messages for error codes of Hugging Face's hub and for HTTP status codes."""
_TEXT = {"input_ids": "int64:{length}"}
_TOKENS = {**_TEXT, "labels": "int64:{length}"}
_FORMS: Mapping[str, Mapping[str, str]] = {
    **dict.fromkeys(("ForCausalLM", "LMHeadModel", "ForMaskedLM"), _TOKENS),
    **dict.fromkeys(("ForConditionalGeneration", "ForTokenClassification"), _TOKENS),
    "ForSequenceClassification": {**_TEXT, "labels": "int64:"},
    "ForQuestionAnswering": {**_TEXT, "start_positions": "int64:", "end_positions": "int64:"},
    "ForImageClassification": {"pixel_values": "{dtype}:{image}", "labels": "int64:"},
    "Model": _TEXT,
}
"""Default inputs of a Hugging Face network, by the suffix of its class name."""
_CAUSAL = ("ForCausalLM", "LMHeadModel")
_MOST_LAYERS = 10_000
_LABELS = ("labels", "start_positions", "end_positions")


def named_step(step: Step) -> tuple[Step, tuple[str, ...]]:
    """Replace a hub name in the step by a function; also return notes on the chosen inputs."""
    hub = hub_of(step.target)
    if hub is None:
        return step, ()
    name = str(step.target).partition(":")[2]
    package = "transformers" if hub == "hf" else hub
    if importlib.util.find_spec(package) is None:
        raise StepError(f"{step.target} needs {package}: pip install {package}")
    if hub == "hf":
        return _of_hugging_face(step, name)
    target, argument = HUBS[hub]
    found = step.replace(target=target, arguments={argument: name, **step.arguments}, inputs="1")
    if step.inputs is not None:
        return found.replace(inputs=step.inputs), ()
    size = _image_side(name)
    note = f"{step.target}: input 3x{size}x{size}, because no --input is given"
    return found.replace(inputs=f"3x{size}x{size}"), (note,)


def _image_side(name: str) -> int:
    """Return the image size in the network's name, e.g. 384 in ``vit_384``; the default is 224."""
    sides = [int(word) for word in name.replace(".", "_").split("_") if word.isdigit()]
    return next((side for side in reversed(sides) if 96 <= side <= 1024), 224)


def _of_hugging_face(step: Step, name: str) -> tuple[Step, tuple[str, ...]]:
    config = {**_config(name), **step.arguments}
    kind = str((config.get("architectures") or ["?"])[0])
    dtype = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    config["dtype"] = dtype.removeprefix("torch.")
    inputs, loss, said = step.inputs, step.loss, [f"{config['dtype']} weights"]
    if inputs is None:
        form = next((form for end, form in _FORMS.items() if kind.endswith(end)), None)
        if form is None:
            what = f"model_type {config['model_type']!r}" if kind == "?" else kind
            raise StepError(f"{step.target}: the inputs of a {what} are not known; give --input")
        kept = [key for key in form if step.mode == "train" or key not in _LABELS]
        texts = {key: form[key].format_map(_sizes(config)) for key in kept}
        said += [f"{key}={text.rstrip(':')}" for key, text in texts.items()]
        inputs = texts
    elif inputs is not None and step.mode == "train" and kind.endswith(_CAUSAL):
        given = tuple(map(str, step.specs))
        if loss == "cross-entropy" and (both := labelled(given)) is not None:
            inputs = both
            said.append(f"its tokens as labels, too ({both[-1]})")
    if loss == "cross-entropy":  # of no use to a class whose output is no tensor
        loss = "model" if any(name in str(inputs) for name in _LABELS) else "sum"
        said.append(f"loss {loss}")
    arguments = {"config": config, "changed": [*step.arguments]}
    target = f"{__name__}:of_config"
    found = step.replace(target=target, arguments=arguments, inputs=inputs, loss=loss)
    note = f"{step.target}: {kind} with {', '.join(said)}; --input, --loss and --arg change them"
    return found, (note, *_not_quantized(step.target, config))


def _not_quantized(target: object, config: dict[str, Any]) -> Iterator[str]:
    """Remove ``quantization_config`` if it exists, and yield a note on the missing quantization."""
    asked = config.pop("quantization_config", None)
    if asked is not None:
        form = asked.get("quant_method", "unknown") if isinstance(asked, dict) else asked
        yield (
            f"{target}: its quantization_config ({form}) is not applied, so all weights are"
            f" {config['dtype']}; harness dry-run of a script that loads it quantized counts it"
        )


def _sizes(config: Mapping[str, Any]) -> dict[str, object]:
    text = config.get("text_config") or config
    most = text.get("max_position_embeddings") or text.get("n_positions") or LENGTH
    side = config.get("image_size") or 224
    high, wide = side if isinstance(side, list) else (side, side)
    image = f"{config.get('num_channels') or 3}x{high}x{wide}"
    return {"length": min(LENGTH, int(most)), "image": image, "dtype": config["dtype"]}


def _config(name: str) -> dict[str, Any]:
    """Read ``config.json`` from a file, a folder, the local cache or the hub."""
    place = Path(name).expanduser()
    path = place / "config.json" if place.is_dir() else place
    if path.is_file():
        text = path.read_text(encoding="utf-8", errors="replace")
    elif place.is_dir() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise StepError(f"hf:{name}: there is no file {path}")
    else:
        text = _cached(name) or _downloaded(name)
    try:
        config = json.loads(text)
    except ValueError as error:
        raise StepError(f"hf:{name}: its config.json is no JSON: {error}") from error
    except RecursionError:
        raise StepError(f"hf:{name}: its config.json has too many levels") from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise StepError(f"hf:{name}: its config.json names no model_type")
    _check_layers(name, config)
    return config


def _check_layers(name: str, config: Mapping[str, Any]) -> None:
    """Refuse more than 10,000 layers or experts, because building them would take hours."""
    for key, value in config.items():
        if isinstance(value, dict):
            _check_layers(name, value)
            continue
        counts = isinstance(value, int) and re.search(r"layers?$|^depths?$|experts$", key)
        if counts and value > _MOST_LAYERS:
            rule = f"{key} must be at most {_MOST_LAYERS:,}, got {value:,}"
            raise StepError(f"hf:{name}: {rule}")


def _cached(name: str) -> str | None:
    """Return the text of ``config.json`` from Hugging Face's cache, or None."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    return Path(found).read_text(encoding="utf-8") if isinstance(found, str) else None


def _downloaded(name: str) -> str:
    from huggingface_hub import get_token

    give = f"give a folder with its config.json, e.g. hf:./{name.rpartition('/')[2]}"
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        raise StepError(f"hf:{name} is not in the cache and HF_HUB_OFFLINE is set; {give}")
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    token = get_token()  # $HF_TOKEN, or what `hf auth login` has saved
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    asked = urllib.request.Request(f"{hub}/{name}/resolve/main/config.json", headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=_SECONDS) as answer:
            return str(answer.read().decode("utf-8"))
    except urllib.error.HTTPError as error:
        code = error.headers.get("X-Error-Code") or error.code
        said = _REFUSALS.get(code, f"{hub} says {error.code} {error.reason}")
        raise StepError(f"hf:{name}: {said.format(page=f'{hub}/{name}')}; {give}") from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise StepError(f"hf:{name}: {hub} cannot be reached ({reason}); {give}") from error


def of_config(config: dict[str, Any], changed: Sequence[str]) -> "nn.Module":
    """Build a network from a config; ``changed`` contains the names of values that the user set."""
    import transformers

    known = config["model_type"] in transformers.CONFIG_MAPPING
    name = (config.get("architectures") or ["AutoModel"])[0]
    kind = getattr(transformers, name, None)
    if not known or kind is None:
        rule = f"transformers {transformers.__version__} has no {name} of {config['model_type']!r}"
        raise StepError(f"{rule}; write a function that returns the network")
    form = transformers.CONFIG_MAPPING[config["model_type"]]
    usual = form()
    for one in changed:
        if not hasattr(usual, one) and one not in ("architectures", "attn_implementation"):
            raise StepError(f"{name} has no value {one!r}{did_you_mean(one, vars(usual))}")
    network: nn.Module = kind._from_config(form.from_dict(config), dtype=config["dtype"])
    return network
