import json
import re
import shlex
from pathlib import Path

import click
import pytest

from harness.cli.app import GONE, app, main
from harness.cli.command import HarnessCommand
from harness.schema.errors import HarnessError
from tests.child_process import child
from tests.commands import Ask, facts_of, without_progress

CUDA = ("--device", "cuda")
TINY = ("--width", "8", "--in-features", "8", "--batch", "4")


def test_measure_prints_one_record_as_json_and_nothing_else(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main(["measure", "--depth", "8", "--width", "256", "--batch", "512", "--json"]) == 0
    printed = capfd.readouterr()
    assert json.loads(printed.out)["saved_bytes"] == 5_824_516
    assert without_progress(printed.err) == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["measure", "--depth", "x"], ["--depth", "'x'", "whole number"]),
        (["measure", "--depth", "-3"], ["depth must be between 1 and 65,536, got -3"]),
        (["measure", "--hidden", "3,a"], ["--hidden", "3,a", "commas"]),
        (["measure", "--hidden", "3,4", "--depth", "7"], ["depth must be 2, the number of widths"]),
        (["measure", "--activation", "rleu"], ["activation", "rleu", "did you mean relu"]),
        (["predict", "--gpu", "mi300x"], ["got 'mi300x'; GPUs of AMD are not modelled"]),
        (
            ["predict", "--gpu", "tpu-v5e"],
            ["TPUs are not modelled, and --capability describes"],
        ),
        (["predict", "--gpu", "l4,t4"], ["give one name, or all"]),
        (["predict", "--gpu", "l5"], ["did you mean l4, l40s"]),
        (["predict", "mlp:8by256"], ["mlp:8by256", "write mlp:DEPTHxWIDTH, e.g. mlp:8x256"]),
        (["predict", "mlp:8x256", "--depth", "4"], ["--depth is already given in mlp:8x256"]),
        (["predict", "mlp:8x256", "--arg", "activtion=gelu"], ["did you mean activation?"]),
        (
            ["predict", "mlp:8x256", "--input", "4"],
            ["--input does not apply to mlp:8x256; give a network"],
        ),
        (["threshold", "mlp:8x256", "--solve", "depth"], ["--depth is the value to find"]),
        (["threshold", "json:loads", "--solve", "depth"], ["--solve depth is for an MLP"]),
        (["plan", "mlp:8x256", "--gpu", "all"], ["harness predict --gpu all"]),
        (["explain", "CUDA error: device-side assert"], ["no out-of-memory message in the text"]),
        (["explain", "my log of the run.txt"], ["'my log of the run.txt' does not exist"]),
        (["predct", "mlp:8x256"], ["no command 'predct' (did you mean predict?)"]),
        (["predict", "nets.py::Net"], ["two colons; write nets.py:Net"]),
        (["predict", "model.safetensors"], ["a file of weights has no network"]),
        (["predict", "hf:"], ["write hf:NAME_OR_FOLDER"]),
        (["predict", "keras:resnet50"], ["there is no module 'keras'"]),
        (["predict", "json:loads", "--input", "4", "--batch", "0"], ["batch must be", "got 0"]),
        (["predict", "mlp:8"], ["write mlp:DEPTHxWIDTH"]),
        (["predict", "bert-base-uncased"], ["is written hf:bert-base-uncased"]),
        (["explain", "it crashed"], ["does not exist; give a log, a memory snapshot, the message"]),
        (["reproduce", "--fast"], ["use --quick"]),
        (["predict", "--largest"], ["predict with a GPU finds the largest batch anyway"]),
        (["predict", "json:loads", "--input", "3,224,224"], ["numbers: 3x224x224, got"]),
        (["predict", "json:loads", "--input", "x=3*224*224"], ["numbers: x=3x224x224, got"]),
        (["predict", "json:loads", "--optimizer", "lion"], ["as FILE.py:FUNCTION"]),
        (["predict", "json:loads", "--loss", "mse"], ["did you mean mean-square?"]),
        (["measure", "json:loads", "--mode", "eval"], ["did you mean inference?"]),
        (["predict", "json:loads", "--dtype", "bfloat16"], ["Net().to(torch.bfloat16)"]),
        (["predict", "json:loads", "--depth", "24"], ["--arg depth=N passes it to TARGET's"]),
        (["predict", "json:loads", "--torch", "2.13"], ["harness dry-run --versions"]),
        (["measure", "json:loads", "--repeats", "3"], ["--repeats cannot be given with a TARGET"]),
        (["report", ".", "--tolerance", "1%"], ["--tolerance needs --against"]),
        (["report", ".", "--against", ".", "--check"], ["give --against or --check, not both"]),
        (["gpus", "h1000"], ["no GPU has 'h1000' in its name (did you mean"]),
        *(([name], [f"harness {name} is now ", words]) for name, words in GONE.items()),
        (["measure", "--dept", "3"], ["--dept", "--depth"]),
        (["measure", "--layers", "4"], ["No such option: --layers; use --depth N"]),
        (["measure", "json:loads"], ["give --input SHAPE"]),
        (
            ["dry-run", "--rows", "4", "train.py"],
            ["--rows", "options of the script after its name"],
        ),
        (["predict", "--lr", "0.1"], ["memory does not depend on the learning rate"]),
        (["threshold", "--budget", "1GiB", "--batch", "4"], ["--batch is the value to find"]),
        (["threshold", "--budget", "256"], ["--budget", "'256' has no unit; write 256MiB"]),
        (["measure", "--deadline", "nan"], ["--deadline", "nan"]),
        (["plan", "x:y", "--batch", "4"], ["--gpu l4"]),
        (["measure", "json:loads", "--optimizer", "sdg"], ["--optimizer", "did you mean sgd?"]),
        (["sweep", "depht_batch"], ["depht_batch", "did you mean depth_batch"]),
        (["reproduce", "--literature", *CUDA], ["--literature does not accept --device"]),
        (["report", "no/such/folder"], ["no/such/folder", "does not exist"]),
        (["report", "x" * 300], ["does not exist"]),
        (["report", ".", "--against", "x" * 5000], ["does not exist"]),
        (["sweep", "depth_batch", "--quick", "--out", "/tmp/" + "x/" * 3000], ["too long"]),
        (["no-such-command"], ["no-such-command"]),
        (["predict", *CUDA, "--gpu", "a100-8gb"], ["did you mean"]),
        (["predict", "--gpu", "l4", "--device", "cpu"], ["device cuda"]),
        (["predict", "--alloc-conf", "expandable_segments:True"], ["device cuda"]),
        (["predict", *CUDA, "--check"], ["--check needs --budget or --gpu"]),
        (["predict", *CUDA, "--memory", "much"], ["not a size"]),
        (["predict", "--torch", "2.6"], ["torch must be a version from 2.7 to 2.15, got 2.6"]),
        (["dry-run", "--largest", "batch", "--", "train.py"], ["--largest needs {} among the scr"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], words: list[str], ask: Ask
) -> None:
    printed = ask(arguments, 2)
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    for word in words:
        assert word in printed.err


def test_help_imports_nothing_heavy_and_shows_an_example() -> None:
    code = (
        "import sys\nfrom harness.cli.app import main\nmain(['--help'])\n"
        "print([m for m in ('torch', 'pandas', 'rich', 'msgspec') if m in sys.modules])"
    )
    done = child(code)
    assert "Example: harness predict" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_harness_alone_prints_its_help_with_whole_summaries(ask: Ask) -> None:
    alone = ask([]).out
    assert ask(["--help"]).out == alone
    assert "..." not in alone.partition("One step:")[2]
    assert max(map(len, alone.splitlines())) <= 80
    assert all(f"\n  {name} " in alone for name in app.commands)


def parses(command: click.Command, arguments: list[str], folder: Path) -> None:
    """Let the parser read the arguments of an example, whose files are made first."""
    made = ("results/", "snapshot", "run.pickle", "oom.pickle", "train.log", "before", "after")
    for path in [word for word in arguments if word.startswith(made)]:
        place = folder / path
        place.mkdir(parents=True, exist_ok=True) if "." not in path else place.touch()
        arguments[arguments.index(path)] = str(place)
    parent = click.Context(app, info_name="harness", **app.context_settings)
    command.make_context(str(command.name), arguments, parent=parent)


ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/guides/*.md")]
PAGES += [ROOT / "docs" / "llms.txt", ROOT / "action.yml"]
WRITTEN = re.compile(r"(?:^\$ |^ {4}|`|^- `)(harness [a-z-]+ [^`\n#;|>]*)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_the_documentation_parses(page: Path, tmp_path: Path) -> None:
    if page.name == "CHANGELOG.md":
        pytest.skip("it tells of earlier versions")
    for line in WRITTEN.findall(page.read_text()):
        _, name, *arguments = shlex.split(line)
        if any(word.isupper() and len(word) > 1 for word in arguments) or "COMMAND" in line:
            continue  # a form, not an example
        command = app.commands[name]
        try:
            parses(command, arguments, tmp_path)
        except (click.UsageError, HarnessError) as error:
            raise AssertionError(f"{page.name}: {line}: {error}") from error


@pytest.mark.parametrize("command", app.commands.values(), ids=app.commands)
def test_every_command_shows_its_help_and_its_examples_are_valid(
    command: click.Command, ask: Ask, tmp_path: Path
) -> None:
    printed = ask([str(command.name), "-h"]).out
    assert "--debug" in printed
    assert isinstance(command, HarnessCommand)
    assert command.examples
    for example in command.examples:
        assert example in printed
        program, name, *arguments = shlex.split(example)
        assert (program, name) == ("harness", command.name)
        parses(command, arguments, tmp_path)


def test_debug_is_taken_after_the_command_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("harness.prediction.mlp.predict_workload.predict", broken)
    assert main(["predict"]) == 1
    for arguments in (["--debug", "predict"], ["predict", "--debug"]):
        with pytest.raises(ZeroDivisionError):
            main(arguments)


UNSUPPORTED = ("--depth", "4", "--autocast", "float16", "--checkpoint", "2")


@pytest.mark.parametrize("question", [(), ("--budget", "1GiB")])
def test_a_prediction_without_an_answer_is_exit_code_3_and_says_why(
    question: tuple[str, ...], ask: Ask
) -> None:
    text = ask(["predict", *UNSUPPORTED, *question], 3).out
    assert text.startswith(
        "unsupported: autocast float16 can be predicted only with float32 parameters"
    )
    assert text.count("no answer") == len(question) // 2
    assert "bytes" not in text
    stated = json.loads(ask(["predict", *UNSUPPORTED, *question, "--json"], 3).out)
    assert stated["outcome"] == "unsupported"
    assert "autocast float16" in stated["reason"]
    assert len(stated["unanswered"]) == len(question) // 2
    text = ask(["predict", "--dtype", "bfloat16"], 3).out
    assert text.startswith("peak: no answer: dtype bfloat16: ")
    assert "saved for backward" in text


def test_a_choice_is_taken_in_any_case(ask: Ask) -> None:
    text = ask(["predict", "--optimizer", "Adam", "--activation", "ReLU", "--json"]).out
    workload = json.loads(text)["workload"]
    assert (workload["optimizer"], workload["activation"]) == ("adam", "relu")


@pytest.mark.exact
@pytest.mark.parametrize("flags", [(), ("--model", "mlp-scratch", "--optimizer", "adam")])
def test_predict_and_measure_agree_in_every_metric_that_both_state(
    flags: tuple[str, ...], ask: Ask
) -> None:
    measured, predicted = (
        facts_of(ask([command, "--depth", "3", *TINY, *flags, "--json"]).out)
        for command in ("measure", "predict")
    )
    own = {"outcome", "wall_seconds", "environment", "rss_rise_bytes", "rss_peak_bytes"}
    own |= {"process", "cuda", "host"}
    both = measured.keys() & predicted.keys() - own
    assert {"saved_bytes", "peak_live_bytes", "phases", "categories_at_peak", "modules"} <= both
    for name in both:
        assert predicted[name] == measured[name], name
