"""An ablation end to end on digits: nothing is trained twice, conflicts come before any step, every figure is kept."""

from __future__ import annotations

import json
import shutil

import pytest

import reinvest as ri
from reinvest.core.errors import CorruptFile, InvalidValue, ReinvestError, SchemaTooNew
from reinvest.evaluation.compare import Listener
from reinvest.studies.ablation import ablate, estimate_ablation, percent, read_ablation, sentence
from reinvest.studies.ablation_effects import Effect

RECIPE = ri.Recipe(
    task={"name": "digits", "train_examples": 200},
    model={"name": "mlp", "hidden": [8]},
    duration="8ep",
    batch_size=50,
    methods=({"name": "LabelSmoothing"}, {"name": "EMA", "half_life": "4st"}),
)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    store = ri.Store(tmp_path_factory.mktemp("ablation") / "runs")
    counts = []
    listener = Listener(planned=lambda jobs, todo: counts.append((len(jobs), len(todo))))
    first = ablate(RECIPE, store=store, seeds=3, workers=1, listener=listener)
    again = ablate(RECIPE, store=store, seeds=3, workers=1, listener=listener)
    return store, first, again, counts


def test_every_combination_is_trained_once_and_never_again(done):
    store, first, again, counts = done
    assert counts == [(4 * 4 * 3, 4 * 4 * 3), (4 * 4 * 3, 0)]
    assert len(store.runs()) == 48
    assert [e.methods for e in again.effects] == [e.methods for e in first.effects]


def test_the_result_holds_every_effect_and_is_plain_json(done, tmp_path):
    _, found, _, _ = done
    text = json.dumps(found.result, allow_nan=False)
    assert json.loads(text) == found.result
    assert [(e["question"], e["methods"]) for e in found.result["effects"]] == [
        ("whole", ["LabelSmoothing", "EMA"]),
        ("on top", ["LabelSmoothing"]),
        ("on top", ["EMA"]),
        ("alone", ["LabelSmoothing"]),
        ("alone", ["EMA"]),
        ("together", ["LabelSmoothing", "EMA"]),
    ]
    assert found.result["arms"]["all"]["methods"] == ["LabelSmoothing", "EMA"]
    assert len(found.result["arms"]["plain"]["points"]) == 12
    page = found.report(tmp_path / "page.html")
    assert read_ablation(page.with_suffix(".json")) == json.loads(text)
    assert "LabelSmoothing" in repr(found)


def test_methods_that_exclude_each_other_are_refused_before_the_first_step(tmp_path):
    store = ri.Store(tmp_path / "runs")
    with pytest.raises(ReinvestError):
        ablate(RECIPE.with_({"name": "LAWA"}), store=store)
    assert store.runs() == []


def test_a_budget_too_small_says_what_is_needed_and_trains_nothing(tmp_path):
    store = ri.Store(tmp_path / "runs")
    with pytest.raises(InvalidValue, match=r"budget of 1e-06 h for about"):
        ablate(RECIPE, store=store, hours=1e-6, workers=1)
    assert store.runs() == []


def test_the_estimate_names_combinations_and_runs(done, tmp_path):
    store, *_ = done
    cost = estimate_ablation(RECIPE, store=ri.Store(tmp_path / "new"), seeds=3, workers=1)
    assert cost["arms"] == ["plain", "all", "EMA", "LabelSmoothing"]
    assert (cost["runs"], cost["found"]) == (48, 0)
    assert estimate_ablation(RECIPE, store=store, seeds=3, workers=1)["found"] == 48


def test_runs_of_unlike_machines_are_not_judged(done, tmp_path):
    store, first, *_ = done
    shutil.copytree(store.path, tmp_path / "runs")
    elsewhere = {p["run"] for p in first.result["arms"]["EMA"]["points"]}
    for run in elsewhere:
        truth = tmp_path / "runs" / "runs" / run / "run.json"
        told = json.loads(truth.read_text())
        told["facts"]["hardware"]["threads"] += 1
        truth.write_text(json.dumps(told))
    found = ablate(RECIPE, store=ri.Store(tmp_path / "runs"), seeds=3, workers=1)
    effects = {(e.question, *e.methods): e for e in found.effects}
    for key in (("on top", "LabelSmoothing"), ("alone", "EMA"), ("together", "LabelSmoothing", "EMA")):
        assert effects[key].time is None and not effects[key].shown
        assert "needs equal threads" in effects[key].reason
    assert "threads" not in effects["alone", "LabelSmoothing"].reason


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("{", CorruptFile),
        ('{"kind": "sequence"}', CorruptFile),
        ('{"kind": "ablation", "schema": 9, "effects": [1]}', SchemaTooNew),
    ],
)
def test_files_that_are_no_ablation_are_refused(tmp_path, content, error):
    file = tmp_path / "a.json"
    file.write_text(content)
    with pytest.raises(error):
        read_ablation(file)
    with pytest.raises(InvalidValue, match="does not exist"):
        read_ablation(tmp_path / "b.json")


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({}, "saves time: -20.0 % time at equal quality (95 % interval -30.0 % to -10.0 %)"),
        ({"shown": False}, "no effect shown: -20.0 % time at equal quality (95 % interval -30.0 % to -10.0 %)"),
        ({"time": 1.1, "low": 1.05, "high": None}, "costs time: +10.0 % time at equal quality (at least +5.0 %)"),
        (
            {"question": "together", "time": 1.1, "low": None},
            "get in each other's way: +10.0 % time at equal quality (at most -10.0 %)",
        ),
        ({"low": None, "high": None}, "saves time: -20.0 % time at equal quality (interval open on both sides)"),
        ({"time": None, "reason": "no seeds"}, "not known: no seeds"),
        ({"time": None, "low": None, "high": 0.354}, "saves at least 64.6 % of the time at equal quality"),
        ({"time": None, "low": 2.83, "high": None}, "costs at least 183.0 % more time at equal quality"),
        (
            {"time": None, "low": None, "high": 1.2, "shown": False},
            "no effect shown: at most +20.0 % time at equal quality",
        ),
        (
            {"time": None, "low": None, "high": None, "verdict": "worse"},
            "costs time at equal quality, how much is not known",
        ),
        ({"time": None, "low": None, "high": None, "shown": False}, "not known"),
        (
            {"verdict": "mixed"},
            "saves time in one part of the range and costs time in another: -20.0 % time at equal quality (95 % interval "
            "-30.0 % to -10.0 %)",
        ),
        (
            {"verdict": "mixed", "time": None, "low": None, "high": None},
            "saves time in one part of the range and costs time in another",
        ),
    ],
)
def test_sentences(change, wanted):
    effect = {
        "question": "alone",
        "methods": ("A",),
        "arm": "A",
        "against": "plain",
        "time": 0.8,
        "low": 0.7,
        "high": 0.9,
        "p": 0.01,
        "shown": True,
    }
    assert sentence(Effect(**{**effect, **change})) == wanted
    assert percent(1.0) == "+0.0 %"
