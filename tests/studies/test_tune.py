"""Equal tuning end to end on digits: nothing is trained twice, winners are judged by fresh seeds, unequal budgets refused."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import yaml
from test_tune_plan import changed

import reinvest as ri
from reinvest.core.errors import CorruptFile, InvalidValue, ReinvestError, SchemaTooNew, UnknownName
from reinvest.core.hardware import facts
from reinvest.evaluation.drawing import mean_curve
from reinvest.evaluation.timing import ArmTiming, Block, timing_block
from reinvest.studies import tune_final, tune_trials
from reinvest.studies.tune import TuneListener, estimate_tuning, metric_of, tune
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


@pytest.fixture(scope="module")
def steps_are_time():
    """Device-seconds by counting: this machine's own differ by more than budgets may."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune_trials, "device_seconds", lambda run: 0.01 * run.steps)
        yield


@pytest.fixture(scope="module", autouse=True)
def quick_block():
    """The timing block in no time: all arms cost the same."""

    def block(recipes, baseline, *, rounds, device, on_round):
        on_round(rounds)
        arms = {n: ArmTiming({}, 0.001, 0.0, 0.0 if n == baseline else 1e-6, 9.0) for n in recipes}
        return Block(rounds, "cpu", 0.0, arms, ["made up"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune_final, "timing_block", block)
        yield timing_block


@pytest.fixture(scope="module")
def done(tmp_path_factory, steps_are_time):
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
        assert arm["budget"] == pytest.approx({"trials": 12, "diverged": 0, "seconds": 0.96, "spent": 0.96})
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


def test_one_tuning_makes_a_claim_about_recipes(done, quick_block, monkeypatch):
    store, *_ = done
    monkeypatch.setattr(tune_final, "timing_block", quick_block)  # the real one
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


def test_unequal_budgets_are_refused_and_cost_no_comparison(done, monkeypatch):
    store, *_ = done
    before = len(store.runs())
    seconds = itertools.cycle([1.0, 1.2])  # trials are told arm by arm
    monkeypatch.setattr(tune_trials, "device_seconds", lambda run: next(seconds))
    found = tune(plan_of(), store, workers=1)
    judged = found.verdicts["smooth"]
    assert judged.verdict == "not comparable"
    assert "tuning budgets may differ by at most 10 %" in judged.reasons[0]
    assert "12 seconds" in judged.reasons[0] and "14.4" in judged.reasons[0]
    assert "{smooth: ..., baseline: 8st}" in judged.reasons[0]
    assert found.result["comparison"] is None and len(store.runs()) == before
    assert claim_text(found.result).startswith("no claim")
    assert found.result["cost"]["runs"] == 24


def test_shorter_trials_of_the_dearer_arm_make_budgets_equal(done, monkeypatch):
    store, *_ = done
    price = {"baseline": 0.01, "smooth": 0.02}
    monkeypatch.setattr(
        tune_trials, "device_seconds", lambda run: run.steps * price["smooth" if run.config["methods"] else "baseline"]
    )
    plan = plan_of(studies=1, seeds=3, duration={"baseline": "8st", "smooth": "4st"}, trials=2)
    found = tune(plan, store, workers=1)
    assert {a["budget"]["seconds"] for a in found.result["arms"].values()} == {0.16}
    assert found.verdicts["smooth"].verdict != "not comparable"


def test_an_arm_whose_trials_all_diverge_is_refused_with_its_study(tmp_path, steps_are_time):
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


def test_the_estimate_counts_runs_and_prices_budgets(done, tmp_path):
    store, *_ = done
    cost = estimate_tuning(plan_of(), ri.Store(tmp_path / "new"), workers=1)
    assert (cost["trials"], cost["found"], cost["runs"]) == (24, 0, 24)
    assert cost["hours"] > 0 and set(cost["trial_seconds"]) == {"baseline", "smooth"}
    assert estimate_tuning(plan_of(), store, workers=1)["found"] == 24
    unequal = estimate_tuning(plan_of(duration={"baseline": "8st", "smooth": "80st"}), store, workers=1)
    assert unequal["equal"] is False
