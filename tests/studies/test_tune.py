"""Equal tuning end to end on digits: nothing is trained twice, winners are judged by fresh seeds, unequal budgets refused."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import yaml
from test_tune_plan import changed

import reinvest as ri
from reinvest.core.errors import CorruptFile, InvalidValue, ReinvestError, SchemaTooNew, UnknownName
from reinvest.core.hardware import facts
from reinvest.evaluation import blocks
from reinvest.evaluation.drawing import mean_curve
from reinvest.evaluation.timing import ArmTiming, Block, timing_block
from reinvest.studies import tune as tune_module
from reinvest.studies import tune_final, tune_prices, tune_trials
from reinvest.studies.tune import TuneListener, metric_of, tune
from reinvest.studies.tune_curves import best_of
from reinvest.studies.tune_final import lost_studies
from reinvest.studies.tune_plan import TuningPlan
from reinvest.studies.tune_result import claim_text, read_tuning

pytest.importorskip("optuna", reason="tuning needs optuna: pip install 'reinvest[tune]'")

BASELINE = {
    "task": {"name": "digits", "train_examples": 200},
    "model": {"name": "mlp", "hidden": [8]},
    "batch_size": 50,
}
METHOD = {"studies": 3, "seeds": 1, "trials": 4, "duration": "8st", "durations": ["4st", "8st", "16st", "32st"]}


def plan_of(**changes):
    return TuningPlan.from_dict(changed(baseline=BASELINE, **{**METHOD, **changes}))


STEP = {"baseline": 0.01, "smooth": 0.01}
"""Seconds of a step of each arm, and of any other."""


def block_of(seconds):
    """A timing block in no time, in which a step of an arm takes what `seconds` says."""

    def block(recipes, baseline, *, rounds, on_round, **_):
        on_round(rounds)
        each = {name: seconds.get(name.partition(",")[0], 0.01) for name in recipes}
        arms = {
            n: ArmTiming({}, s, math.log(s / each[baseline]), 0.0 if n == baseline else 1e-6, 9.0)
            for n, s in each.items()
        }
        return Block(rounds, "cpu", 0.0, arms, ["made up"])

    return block


@pytest.fixture(scope="module", autouse=True)
def quick_blocks():
    """Timing blocks in no time: all arms cost the same. Gives the real one."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (blocks, tune_prices):
            patch.setattr(module, "timing_block", block_of(STEP))
        yield timing_block


@pytest.fixture
def dearer(monkeypatch):
    """From now on a step of the second arm takes 1.2 times as long, whatever the store keeps."""
    for module in (blocks, tune_prices):
        monkeypatch.setattr(module, "timing_block", block_of({"smooth": 0.012}))
    monkeypatch.setattr(blocks, "_read", lambda file: None)
    monkeypatch.setattr(tune_module, "prices_kept", lambda *asked: None)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    store = ri.Store(tmp_path_factory.mktemp("tuned") / "runs")
    told = []
    listener = TuneListener(
        planned=lambda jobs, todo: told.append((len(jobs), len(todo))), tried=lambda *seen: told.append(seen)
    )
    first = tune(plan_of(), store, workers=1, listener=listener)
    again = tune(plan_of(), store, workers=1, listener=listener)
    return store, first, again, told


def test_every_run_is_made_once_and_never_again(done):
    store, first, again, told = done
    trials, runs = 2 * 3 * 4, 2 * 3 * 4
    assert len(store.runs()) == trials + runs
    assert told[:trials] == [(k, trials, False) for k in range(1, trials + 1)]
    assert [t for t in told if len(t) == 2] == [(runs, runs), (runs, 0)]
    assert (first.result["cost"]["runs"], first.result["cost"]["found"]) == (trials + runs, 0)
    assert again.result["cost"]["found"] == trials + runs
    assert again.result["tried"] == first.result["tried"]
    assert [a["winners"] for a in again.result["arms"].values()] == [
        a["winners"] for a in first.result["arms"].values()
    ]


def test_winners_are_the_best_on_validation_of_their_study(done):
    _, found, _, _ = done
    for name, arm in found.result["arms"].items():
        assert [w["study"] for w in arm["winners"]] == [1, 2, 3]
        for winner in arm["winners"]:
            own = [t for t in found.result["tried"] if (t["arm"], t["study"]) == (name, winner["study"])]
            assert len(own) == 4
            assert winner["quality"] == max(t["quality"] for t in own)
            assert winner["values"] == own[winner["trial"] - 1]["values"]


def test_they_are_run_again_with_seeds_that_no_trial_had(done):
    store, found, _, _ = done
    tried = {t["seed"] for t in found.result["tried"]}
    for name, arm in found.result["comparison"]["arms"].items():
        assert len(arm["points"]) == 3 * 4
        assert tried.isdisjoint(p["seed"] for p in arm["points"])
        assert len({p["seed"] for p in arm["points"]}) == 12
        rates = {store.get(p["run"]).config["optimizer"]["lr"] for p in arm["points"]}
        assert rates == {w["values"]["optimizer.lr"] for w in found.result["arms"][name]["winners"]}
        for point in arm["points"]:
            run = store.get(point["run"])
            assert point["quality"] == run.quality("accuracy", "test") and point["duration"] == run.config["duration"]


def test_the_study_is_the_unit_and_the_claim_is_about_the_method(done):
    _, found, _, _ = done
    judged = found.verdicts["smooth"]
    assert (judged.verdict != "not comparable", judged.claim) == (True, "method")
    assert "studies" in judged.pairing
    assert judged.df <= 4.0 + 1e-9
    assert not any(
        flag.startswith(("tuning not declared", "timing not checked", "runs repeat")) for flag in judged.flags
    )
    assert "claim: method" in repr(found) and "3 times independently" in claim_text(found.result)


def test_bands_are_as_wide_as_the_tunings_lie_apart(done):
    store, found, _, _ = done
    for name, arm in found.result["comparison"]["arms"].items():
        study = {w["values"]["optimizer.lr"]: w["study"] for w in found.result["arms"][name]["winners"]}
        rows = [{**p, "arm": name} for p in arm["points"]]
        bound = [{**p, "trunk": study[store.get(p["run"]).config["optimizer"]["lr"]]} for p in rows]
        drawn, free = (mean_curve(r, name, test_examples=metric_of(plan_of()).test_examples) for r in (bound, rows))
        assert arm["curve"]["low"] == pytest.approx(drawn.low.tolist(), nan_ok=True)
        assert free.low.tolist() != pytest.approx(drawn.low.tolist(), nan_ok=True)


def test_budgets_and_curves(done):
    _, found, _, _ = done
    for name, arm in found.result["arms"].items():
        assert arm["budget"] == pytest.approx(
            {"trials": 12, "diverged": 0, "seconds": 0.96, "spent": 0.96, "own_clock": arm["budget"]["own_clock"]}
        )
        own_clocks = [t["own_clock"] for t in found.result["tried"] if t["arm"] == name]
        assert arm["budget"]["own_clock"] == pytest.approx(math.fsum(own_clocks)) and min(own_clocks) > 0
        own = [[t["quality"] for t in found.result["tried"] if (t["arm"], t["study"]) == (name, s)] for s in (1, 2, 3)]
        assert [p["k"] for p in arm["best_of"]] == [1, 2]
        for point in arm["best_of"]:
            assert point["quality"] == pytest.approx(math.fsum(best_of(v, point["k"]) for v in own) / 3)


def test_the_result_is_plain_json_and_is_read_back(done, tmp_path):
    _, found, _, _ = done
    page = found.report(tmp_path / "page.html")
    assert read_tuning(page.with_suffix(".json")) == json.loads(json.dumps(found.result, allow_nan=False))
    assert TuningPlan.from_dict(yaml.safe_load(found.result["reproduce"]["plan"])).to_dict() == plan_of().to_dict()
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(CorruptFile, match="kind 'tuning'"):
        read_tuning(tmp_path / "x.json")
    with pytest.raises(InvalidValue, match="does not exist"):
        read_tuning(tmp_path / "y.json")
    (tmp_path / "z.json").write_text(json.dumps({**found.result, "schema": 2}))
    with pytest.raises(SchemaTooNew):
        read_tuning(tmp_path / "z.json")


def test_with_too_few_tunings_left_at_a_duration_there_is_no_claim(done):
    _, found, _, _ = done
    points = [dict(p, arm=n) for n, arm in found.result["comparison"]["arms"].items() for p in arm["points"]]
    points = [{**p, "study": str(k % 3 + 1)} for k, p in enumerate(points)]
    plan, names = plan_of(), ("baseline", "smooth")
    assert lost_studies(plan, points, names) == ""
    one = next(k for k, p in enumerate(points) if (p["arm"], p["duration"]) == ("smooth", "16st"))
    points[one] = {**points[one], "status": "diverged"}
    assert "arm 'smooth' at 16st has 2" in lost_studies(plan, points, names)
    assert lost_studies(plan, points, ("baseline",)) == ""
    assert lost_studies(plan_of(studies=1, seeds=3), points, names) == ""


def test_winners_that_diverge_in_the_comparison_are_refused(done, monkeypatch):
    store, *_ = done
    made = tune_final._point

    def diverged(plan, job, study, *rest):
        lost = (job.arm, job.duration, study) == ("smooth", "16st", 2)
        return made(plan, job, study, *rest) | ({"status": "diverged", "quality": math.nan} if lost else {})

    monkeypatch.setattr(tune_final, "_point", diverged)
    judged = tune(plan_of(), store, workers=1).verdicts["smooth"]
    assert judged.verdict == "not comparable" and "at 16st has 2" in judged.reasons[0]


def test_one_tuning_makes_a_claim_about_recipes(done, quick_blocks, monkeypatch):
    store, *_ = done
    monkeypatch.setattr(blocks, "timing_block", quick_blocks)  # the real one
    found = tune(plan_of(studies=1, seeds=3), store, workers=1)
    assert found.verdicts["smooth"].claim == "recipe"
    # The trials of the first study, and the runs of its winners with the first seed.
    assert found.result["cost"]["found"] == 2 * 4 + 2 * 4
    assert any("how lucky each tuning was" in flag for flag in found.result["flags"])
    rows = found.result["timing"]["winners"]
    assert [(r["arm"], r["study"]) for r in rows] == [("baseline", 1), ("smooth", 1)]
    for row in rows:
        for point in found.result["comparison"]["arms"][row["arm"]]["points"]:
            assert point["seconds"] == pytest.approx(point["steps"] * row["seconds_per_step"], rel=0.3)


def test_the_blocks_error_is_shared_by_an_arm_and_never_made_smaller():
    arms = {
        "baseline, study 1": ArmTiming({}, 1.0, 0.0, 0.0, 9.0),
        "baseline, study 2": ArmTiming({}, 1.0, 0.0, 0.0004, 8.0),
        "baseline, study 3": ArmTiming({}, 1.0, 0.0, 0.0001, 9.0),
        **{f"smooth, study {s}": ArmTiming({}, 1.0, 0.0, 0.0009, 7.0) for s in (1, 2, 3)},
    }
    error = tune_final.shared_error(plan_of(), Block(10, "cpu", 1.0, arms, []), "smooth")
    assert error["log_ratio_variance"] == pytest.approx(((0.02 + 0.01) / 3 + 0.03) ** 2)
    assert error["df"] == 7.0


def test_unequal_budgets_are_refused_before_anything_is_paid(dearer, tmp_path):
    store = ri.Store(tmp_path / "runs")
    told = []
    with pytest.raises(InvalidValue, match="tuning budgets may differ by at most 10 %") as caught:
        tune(plan_of(), store, workers=1, listener=TuneListener(pricing=lambda *seen: told.append(seen)))
    assert "got 0.960 s of device time for 'baseline' and 1.15 s for 'smooth'" in str(caught.value)
    assert "duration: {baseline: 8st, smooth: 7st}" in str(caught.value)
    assert told == [(10, 10)] and store.runs() == []
    # A refusal is not kept: the machine may be quieter the next time.
    assert not (store.path / "tuned").exists()


def test_a_tuning_that_is_continued_has_the_prices_that_it_began_with(tmp_path, monkeypatch):
    store, plan = ri.Store(tmp_path / "runs"), plan_of(trials=2)

    def stop(*told):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(plan, store, workers=1, listener=TuneListener(tried=stop))
    assert len(store.runs()) == 1
    monkeypatch.setattr(tune_prices, "timing_block", block_of({"smooth": 0.02}))
    budget = {name: arm["budget"]["seconds"] for name, arm in tune(plan, store, workers=1).result["arms"].items()}
    assert budget["smooth"] == pytest.approx(budget["baseline"])


def test_before_adaptive_trials_are_paid_it_is_told_that_their_budgets_may_change(tmp_path):
    def stop(*told):
        raise KeyboardInterrupt

    told, sizes = [], {"batch_size": [25, 50]}
    listener = TuneListener(warned=told.append, trying=stop)
    plan = plan_of(spaces={"baseline": sizes, "smooth": sizes}, sampler="tpe", duration="1ep")
    with pytest.raises(KeyboardInterrupt):
        tune(plan, ri.Store(tmp_path / "runs"), workers=1, listener=listener)
    assert len(told) == 2 and all("TPE follows what it finds" in sentence for sentence in told)


def test_on_a_busy_machine_a_refusal_says_so(dearer, tmp_path, monkeypatch):
    made = tune_prices.timing_block
    monkeypatch.setattr(
        tune_prices, "timing_block", lambda *a, **k: dataclasses.replace(made(*a, **k), flags=("timing disturbed",))
    )
    with pytest.raises(InvalidValue, match="smooth: 7st}, or try again when the machine is quieter"):
        tune(plan_of(), ri.Store(tmp_path / "runs"), workers=1)


def test_trials_that_are_there_are_refused_with_their_page_and_cost_no_comparison(done, dearer):
    store, *_ = done
    before = len(store.runs())
    found = tune(plan_of(), store, workers=1)
    judged = found.verdicts["smooth"]
    assert judged.verdict == "not comparable" and "at most 10 %" in judged.reasons[0]
    assert found.result["comparison"] is None and len(store.runs()) == before
    assert claim_text(found.result).startswith("no claim")
    assert found.result["cost"]["runs"] == 24


def test_a_busy_machine_changes_no_budget(done, monkeypatch):
    store, first, *_ = done
    told = tune_trials.Walk.tell

    def slower(walk, run):
        trial = told(walk, run)
        return tune_trials.replace(trial, own_seconds=trial.own_seconds * (3.0 if trial.arm == "smooth" else 1.0))

    monkeypatch.setattr(tune_trials.Walk, "tell", slower)
    found = tune(plan_of(), store, workers=1)
    before, after = (r["arms"]["smooth"]["budget"] for r in (first.result, found.result))
    assert after["own_clock"] == pytest.approx(3 * before["own_clock"])
    assert after["seconds"] == before["seconds"]
    assert found.verdicts["smooth"].verdict != "not comparable"


def test_prices_are_in_the_result_and_those_of_winners_are_checked(done, monkeypatch):
    store, first, *_ = done
    assert [(r["arm"], r["value"]) for r in first.result["prices"]["steps"]] == [
        ("baseline", None), ("smooth", None), ("smooth", 0.2),
    ]  # fmt: skip
    assert not any("its budget was charged" in flag for flag in first.result["flags"])
    monkeypatch.setattr(blocks, "timing_block", block_of({"smooth": 0.013}))
    monkeypatch.setattr(blocks, "_read", lambda file: None)
    flags = [flag for flag in tune(plan_of(), store, workers=1).result["flags"] if "its budget was charged" in flag]
    assert len(flags) == 3 and "the winner of smooth, study 1 takes 1.30 times the baseline's" in flags[0]


def test_shorter_trials_of_the_dearer_arm_make_budgets_equal(done, monkeypatch):
    store, *_ = done
    for module in (blocks, tune_prices):
        monkeypatch.setattr(module, "timing_block", block_of({"smooth": 0.02}))
    plan = plan_of(studies=1, seeds=3, duration={"baseline": "8st", "smooth": "4st"}, trials=2)
    found = tune(plan, store, workers=1)
    assert {round(a["budget"]["seconds"], 9) for a in found.result["arms"].values()} == {0.16}
    assert found.verdicts["smooth"].verdict != "not comparable"


def test_an_arm_whose_trials_all_diverge_is_refused_with_its_study(tmp_path):
    wild = {"optimizer.lr": {"low": 1e18, "high": 1e30, "log": True}}
    tame = {"optimizer.lr": {"low": 0.05, "high": 1.0, "log": True}}
    arms = {"smooth": {"methods": ["LabelSmoothing"]}, "soft": {"methods": [{"LabelSmoothing": {"alpha": 0.3}}]}}
    spaces = {"baseline": tame, "smooth": wild, "soft": tame}
    plan = plan_of(studies=1, seeds=3, trials=2, duration="20st", arms=arms, spaces=spaces)
    found = tune(plan, ri.Store(tmp_path / "runs"), workers=1)
    assert "all 2 trials of 'smooth' diverged" in found.verdicts["smooth"].reasons[0]
    assert found.verdicts["soft"].verdict != "not comparable"
    assert found.result["arms"]["smooth"]["winners"] == []
    assert list(found.verdicts) == ["smooth", "soft"]
    # A diverged trial has the worst quality that any trial had.
    worst = min(t["quality"] for t in found.result["tried"] if t["quality"] is not None)
    assert found.result["arms"]["smooth"]["best_of"] == [{"k": 1, "quality": worst}]


def test_trials_of_another_machine_are_not_judged(done, monkeypatch):
    store, *_ = done
    told = tune_trials.Walk.tell

    def elsewhere(walk, run):
        trial = told(walk, run)
        changed_facts = {**facts("cpu"), "hardware": {**run.facts["hardware"], "threads": 7}}
        return tune_trials.replace(trial, facts=changed_facts) if trial.arm == "smooth" else trial

    monkeypatch.setattr(tune_trials.Walk, "tell", elsewhere)
    found = tune(plan_of(), store, workers=1)
    assert "equal threads" in found.verdicts["smooth"].reasons[0]


def test_methods_that_exclude_each_other_are_refused_before_the_first_trial(tmp_path):
    store = ri.Store(tmp_path / "runs")
    arms = {"smooth": {"methods": ["LabelSmoothing", {"EMA": {"half_life": "4st"}}, "LAWA"]}}
    with pytest.raises(ReinvestError, match="average"):
        tune(plan_of(arms=arms), store, workers=1)
    assert store.runs() == []


def test_the_metric_is_one_that_training_logs():
    assert metric_of(plan_of()).name == "accuracy" and metric_of(plan_of()).higher_is_better
    loss = metric_of(plan_of(metric="loss"))
    assert (loss.name, loss.higher_is_better, loss.sign) == ("loss", False, -1)
    with pytest.raises(UnknownName, match="accuracy, loss"):
        metric_of(plan_of(metric="f1"))
