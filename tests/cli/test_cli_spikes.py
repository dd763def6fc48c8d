"""`reinvest spikes`, as a user types it: with a watch, without one, and with nothing to go by."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from calling import Call

from reinvest.cli.main import main
from reinvest.store import Store

RECIPE = """
task: {name: digits, train_examples: 400}
model: {name: mlp, hidden: [16]}
batch_size: 32
duration: 8ep
optimizer: {name: sgd, lr: 0.05, momentum: 0.9}
methods:
  - SpikeWatch: {window: 40}
  - "leaping:Leap": {step: 60}
"""
LEAP = '''
from reinvest.core.method import Card, Method


class Leap(Method):
    """In one step the gradients are many times as large."""

    card = Card("leap", "none: a test", 2020, "none", "gradients", "none", "everything", ("any",))

    def __init__(self, step=60):
        self.step = step

    def gradients(self, context, again):
        if context.step == self.step:
            for p in context.model.parameters():
                p.grad *= 100.0
        return True
'''


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that spikes, one that does not and keeps epochs only, and one that kept nothing."""
    folder = tmp_path_factory.mktemp("spiking")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        Path("leaping.py").write_text(LEAP)
        Path("recipe.yaml").write_text(RECIPE)
        assert main(["train", "recipe.yaml", "--device", "cpu"]) == 0
        Path("plain.yaml").write_text(RECIPE[: RECIPE.index("methods")])
        assert main(["train", "plain.yaml", "--device", "cpu"]) == 0
        with Store("runs").record("bare", task="digits", records=False, facts={}):
            pass
    sys.modules.pop("leaping", None)
    return folder


@pytest.fixture
def there(trained: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Commands called in that folder."""
    monkeypatch.chdir(trained)
    monkeypatch.syspath_prepend(str(trained))
    return call


def run_named(name: str) -> str:
    """The runs in the order in which they were made."""
    return Store("runs").runs()[("leapt", "plain", "bare").index(name)].id


def test_the_table_the_paragraph_and_the_page(there: Call) -> None:
    said = there("spikes", run_named("leapt"), "--out", "spikes.html")
    assert said.code == 0
    for part in ("Loss spikes:", "61", "the update before", "moved the weights too far", "Page: spikes.html"):
        assert part in " ".join(said.out.split()), part
    assert Path("spikes.html").stat().st_size > 10**6
    result = json.loads(Path("spikes.json").read_text())
    assert result["kind"] == "spikes" and result["spikes"][0]["start"] == 61
    again = there("report", "spikes.json", "--out", "again.html")
    assert again.code == 0 and "the update before" in again.out and Path("again.html").exists()


def test_json_has_the_findings(there: Call) -> None:
    data = there("spikes", run_named("leapt"), "--json").data
    assert data["source"] == "steps" and data["spikes"][0]["cause"] == "update" and "series" not in data
    high = there("spikes", run_named("leapt"), "--threshold", "1e6", "--json").data
    assert high["spikes"] == [] and high["threshold"] == 1e6


def test_a_replay_is_told(there: Call) -> None:
    data = there("spikes", run_named("leapt"), "--replay", "--json").data
    replay = data["spikes"][0]["replay"]
    assert replay["same_bits"] and replay["same_ids"] and replay["again"] and replay["other_seed"] == 1
    assert len(Store("runs").runs()) == 3


def test_without_a_watch_epochs_are_compared_and_it_is_said_what_to_add(there: Call) -> None:
    said = there("spikes", run_named("plain"))
    assert said.code == 0 and said.out.startswith("none of the 8 epochs of run ") and "8 epochs are too few" in said.out
    assert "methods: [SpikeWatch]" in " ".join(said.out.split())


@pytest.mark.parametrize(
    ("name", "words", "part"),
    [
        ("bare", (), "spikes are found in what a run kept of its steps or epochs"),
        ("plain", ("--replay",), "a replay needs the steps of a spike"),
        ("leapt", ("--threshold", "0"), "robust z above 0, got 0"),
        ("leapt", ("--threshold", "high"), "--threshold takes a number, got 'high'"),
        ("leapt", ("--out", "page.txt"), "HTML file, got 'page.txt'; write --out report.html"),
    ],
)
def test_bad_input_is_one_sentence(there: Call, name: str, words: tuple[str, ...], part: str) -> None:
    said = there("spikes", run_named(name), *words)
    assert said.code == 2 and part in said.sentence


def test_the_first_steps_are_said_not_to_be_judged(there: Call) -> None:
    run = run_named("leapt")
    for words in ((), ("--threshold", "1e6")):
        said = there("spikes", run, *words, "--out", "spikes.html")
        assert "the first 30 of 96 steps cannot be judged" in " ".join(said.out.split())
        assert json.loads(Path("spikes.json").read_text())["unjudged"] == 30
        assert "The first 30 of 96 steps cannot be judged" in Path("spikes.html").read_text(encoding="utf8")
    assert "first 30 of 96 steps" in there("spikes", run, "--json").data["notes"][0]


def test_a_replay_of_a_run_without_a_spike_says_so_and_is_no_failure(there: Call) -> None:
    words = ("spikes", run_named("leapt"), "--threshold", "1e6", "--replay")
    said = there(*words)
    assert said.code == 0 and "nothing was trained again, because there is no spike to replay" in said.out
    assert "nothing was trained again" in there(*words, "--json").data["notes"][-1]


def test_an_unknown_run_is_refused(call: Call) -> None:
    assert "no run 'ffff'" in call("spikes", "ffff").sentence


def test_a_spike_is_replayed_without_its_batch(there: Call) -> None:
    run = runs_of("runs", "SpikeWatch")
    said = there("spikes", run, "--replay", "--without-batch", "--json")
    assert said.code == 0, said.err
    spikes = said.data["spikes"]
    told = [spike["without"] for spike in spikes if spike["without"] is not None]
    assert len(told) == 1 and told[0]["start"] == max(spikes, key=lambda s: s["z"])["start"]
    assert "without the batch of step" in told[0]["text"] and spikes[0]["replay"] is None
    chosen = spikes[0]["ids"][:2]
    again = there(
        "spikes", run, "--replay", "--without", ",".join(map(str, chosen)), "--spike", str(spikes[0]["start"])
    )
    assert again.code == 0 and "without 2 examples" in " ".join(again.out.split())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--without-batch",), "left out of a replay, got --without or --without-batch alone; add --replay"),
        (("--replay", "--without", "3", "--without-batch"), "got --without 3 and --without-batch; drop one"),
        (("--replay", "--without", "3;4"), "whole numbers with commas between them, or suspects, got --without '3;4'"),
        (("--spike", "61"), "got --spike 61 alone; add --without IDS or --without-batch"),
        (("--replay", "--without-batch", "--spike", "7"), "unknown first step of a spike '7'. Known: 61"),
        (("--replay", "--without", "suspects"), "blamed on none; name ids, or use --without-batch"),
        (("--replay", "--without-batch", "--threshold", "1e9"), "without a spike above robust z 1e+09"),
    ],
)
def test_refusals_of_what_is_left_out(there: Call, words: tuple[str, ...], expected: str) -> None:
    said = there("spikes", runs_of("runs", "SpikeWatch"), *words)
    assert said.code == 2 and expected in said.sentence, said.sentence


def runs_of(store: str, method: str) -> str:
    """The run with a method."""
    with Store(store) as opened:
        return next(run.id for run in opened.runs() if method in json.dumps(run.config))
