"""Finding commands, help, exit codes, and what is said when something goes wrong."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from calling import Call

from reinvest import __version__
from reinvest.cli import main as module
from reinvest.cli._parser import Command
from reinvest.cli.main import COMMANDS
from reinvest.core.errors import InvalidValue
from reinvest.store import Store

PYTHON = [sys.executable, "-m", "reinvest.cli.main"]
REPOSITORY = Path(__file__).parents[2]


def test_help_lists_every_command_and_says_what_exit_codes_mean(call: Call) -> None:
    said = call("--help")
    assert said.code == 0
    for name, (_, about) in COMMANDS.items():
        assert f"  {name}" in said.out
        assert about in said.out
    assert "exit codes" in said.out
    assert call().out == said.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_examples(call: Call, name: str) -> None:
    said = call(*name.split(), "--help")
    assert said.code == 0
    assert "--json" in said.out
    examples = said.out.split("examples:\n")[1].strip().splitlines()
    assert len(examples) >= 2
    for line in examples:
        assert line.strip().startswith(f"reinvest {name}")
        for word in line.split():
            if word.startswith("examples/"):
                assert (REPOSITORY / word).exists(), word


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_the_help_can_be_parsed(name: str) -> None:
    import shlex
    from importlib import import_module

    where, attribute = COMMANDS[name][0].split(":")
    command: Command = getattr(import_module(f"reinvest.cli.{where}"), attribute)
    for line in command.examples:
        words = [w for w in shlex.split(line)[1 + len(name.split()) :] if w != "--json"]
        command.parser(name).parse_args(command.rewrite(words))


def test_help_with_json_is_one_object(call: Call) -> None:
    text = call("runs", "--help").out
    assert call("runs", "--help", "--json").data == {"help": text.rstrip("\n")}
    assert call("--help", "--json").data.keys() == {"version", "commands"}


@pytest.mark.parametrize("name", ["train", "compare", "demo"])
def test_an_interruption_promises_no_saved_state(call: Call, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def run(options: Any, out: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(COMMANDS, name, ("runs:LIST", "about"))
    monkeypatch.setattr("reinvest.cli.runs.LIST", Command("about", ("a", "b"), lambda parser: None, run))
    assert re.search("continues.* from (its|their) last saved state, or from the start$", call(name).sentence)


def test_version(call: Call) -> None:
    assert call("--version").out == f"reinvest {__version__}\n"
    assert call("--version", "--json").data == {"version": __version__}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["compere"], "did you mean 'compare'?"),
        (["store", "verifi"], "did you mean 'verify'?"),
        (["store"], "reinvest store gc"),
        (["runs", "--stor", "x"], "did you mean '--store'?"),
        (["runs", "--limit", "many"], "--limit takes a whole number, got 'many'"),
        (["runs", "--limit", "0"], "--limit is 1 or more"),
        (["runs", "extra"], "does not know what to do with 'extra'"),
        (["runs", "--store"], "expected one argument"),
        (["verdict", "points.csv"], "baseline"),
        (["runs", "show"], "see reinvest runs show --help"),
        (["methods", "Mixupp"], "did you mean 'Mixup'?"),
        (["report", "none.json"], "does not exist"),
        (["compare", "none.yaml"], "does not exist"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(call: Call, words: list[str], expected: str) -> None:
    said = call(*words)
    assert said.code == 2
    assert expected in said.sentence


def test_with_json_an_error_is_one_object_too(call: Call) -> None:
    said = call("--json", "compere")
    assert said.code == 2
    assert said.data["kind"] == "UnknownName"
    assert "compare" in said.data["error"]


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run(options: Any, out: Any) -> int:
        raise error

    command = Command("about", ("a", "b"), lambda parser: None, run)
    monkeypatch.setattr("reinvest.cli.runs.LIST", command)


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (InvalidValue("a rule, got this; do that"), 2, "reinvest: a rule, got this; do that"),
        (OSError(errno.ENOSPC, "No space left on device", "/full/disk"), 2, "No space left on device (/full/disk)"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("division by zero"), 1, "REINVEST_DEBUG=1"),
    ],
)
def test_whatever_is_raised_becomes_one_sentence(
    call: Call, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, expected: str
) -> None:
    raising(monkeypatch, error)
    said = call("runs")
    assert said.code == code
    assert expected in said.sentence
    again = call("runs", "--json")
    assert again.code == code
    assert set(again.data) == {"error", "kind"}


def test_a_fault_shows_its_trace_only_when_asked(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, ZeroDivisionError("division by zero"))
    monkeypatch.setenv("REINVEST_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        call("runs")


def test_with_json_nothing_else_reaches_standard_output(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(options: Any, out: Any) -> int:
        print("printed by somebody's study")
        subprocess.run([sys.executable, "-c", "print('printed by a child')"], check=True)
        out.give({"answer": float("nan"), "path": Path("x")}, lambda: "text")
        return 0

    monkeypatch.setattr("reinvest.cli.runs.LIST", Command("about", ("a", "b"), lambda parser: None, run))
    said = call("runs", "--json")
    assert said.data == {"answer": None, "path": "x"}
    assert "printed by somebody's study" in said.err
    assert "printed by a child" in said.err


@pytest.mark.parametrize(
    "words", [["--help"], ["runs"], ["runs", "tree"], ["store", "verify"], ["store", "gc"], ["compare", "--help"]]
)
def test_looking_at_a_store_and_help_load_no_torch(runs: Store, words: list[str]) -> None:
    code = (
        "import sys; from reinvest.cli.main import main; code = main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules and 'rich' not in sys.modules; sys.exit(code)"
    )
    subprocess.run([sys.executable, "-c", code, *words], check=True, cwd=runs.path.parent, capture_output=True)


def test_showing_a_run_loads_no_torch(runs: Store) -> None:
    code = (
        "import sys; from reinvest.cli.main import main; main(['runs', 'show', sys.argv[1]]); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code, runs.runs()[0].id], check=True, cwd=runs.path.parent, capture_output=True
    )


def test_a_reader_that_leaves_early_is_no_error(runs: Store) -> None:
    # Standard output whose other end is closed: what `reinvest runs | head -1` leads to.
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*PYTHON, "runs"], cwd=runs.path.parent, stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert done.returncode == module.PIPE
    assert done.stderr == ""


def test_the_installed_command_answers(runs: Store) -> None:
    script = Path(sys.executable).with_name("reinvest")
    done = subprocess.run([script, "runs", "--json"], cwd=runs.path.parent, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["total"] == 4
