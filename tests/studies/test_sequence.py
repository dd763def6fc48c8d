"""Sequence studies on runs by formula: what is trained, what is charged, and what is found of what was planted."""

from __future__ import annotations

import io
import json
import math
import re
import zlib
from pathlib import Path
from typing import Any

import pytest
from fake_runs import STEP, FakeRun, FakeStore, Trainer, curve, name_of, plan_of, planted, priced, taught
from rich.console import Console

from reinvest.core.errors import InvalidValue
from reinvest.evaluation.compare import Listener
from reinvest.report.sequence import print_sequence, render_sequence
from reinvest.studies.policies import apply
from reinvest.studies.sequence import SequenceResult, estimate_sequence, run_sequence
from reinvest.studies.sequence_plan import SequencePlan, seed_of

QUIET: dict[str, Any] = {"workers": 1, "threads": 1, "own_clock": True}


def study(plan: SequencePlan, store: FakeStore, train: Trainer, **more: Any) -> SequenceResult:
    return run_sequence(plan, store, train=train, **{**QUIET, **more})


def outside(store: FakeStore, plan: SequencePlan, seconds: float) -> FakeRun:
    run = FakeRun(plan.recipe(0, "320st"), 99, 0.9)
    run.seconds = seconds
    return store.put(run)


# ---- what is trained -----------------------------------------------------------------------------------------------


def test_the_first_run_is_trained_once_and_all_seeds_are_those_of_the_plan(tmp_path: Path) -> None:
    plan = plan_of(arms={"scratch": "scratch", "records": "records", "warm": "warm start"})
    store, train = FakeStore(tmp_path), Trainer(planted(1.5), noise=0.002)
    planned: list[tuple[int, int]] = []
    listener = Listener(planned=lambda jobs, todo: planned.append((len(jobs), len(todo))))
    result = study(plan, store, train, listener=listener).result
    # Per sequence and duration: one first run for all arms, two followers in each of three arms.
    expected = 5 * 4 * (1 + 3 * 2)
    assert planned == [(expected, expected)]
    assert len(train.calls) == len(set(train.calls)) == expected == result["cost"]["runs"]
    runs = {(r["arm"], r["duration"], r["sequence"], r["position"]): r["run"] for r in result["runs"]}
    assert len(runs) == 5 * 4 * 3 * 3
    for (arm, duration, number, position), run in runs.items():
        assert store.get(run).seed == seed_of(number, position - 1, duration)
        assert (run == runs["scratch", duration, number, position]) == (arm == "scratch" or position == 1)
    seeds = {store.get(r["run"]).seed for r in result["runs"] if r["arm"] == "scratch"}
    assert len(seeds) == 5 * 4 * 3


def test_a_second_call_trains_nothing_and_says_the_same(tmp_path: Path) -> None:
    plan, store = plan_of(), FakeStore(tmp_path)
    first = study(plan, store, Trainer(planted(1.5), noise=0.002))
    again = Trainer(planted(1.5))
    second = study(plan, store, again)
    assert again.calls == []
    assert second.result["cost"]["found"] == second.result["cost"]["runs"] == 100
    for part in ("arms", "points", "runs", "positions", "flags"):
        assert first.result[part] == second.result[part]


def test_an_interrupted_study_goes_on_where_it_was(tmp_path: Path) -> None:
    plan, store = plan_of(), FakeStore(tmp_path)
    begun = Trainer(planted(1.5), stop_after=37)
    with pytest.raises(KeyboardInterrupt):
        study(plan, store, begun)
    rest = Trainer(planted(1.5), noise=0.001)
    result = study(plan, store, rest).result
    assert len(begun.calls) + len(rest.calls) == 100
    assert not set(begun.calls) & set(rest.calls)
    assert result["cost"]["found"] == 37


def test_arms_added_later_train_only_what_is_new(tmp_path: Path) -> None:
    store = FakeStore(tmp_path)
    study(plan_of(), store, Trainer(planted(1.5), noise=0.001))
    more = Trainer(planted(1.5), noise=0.001)
    study(plan_of(arms={"scratch": "scratch", "records": "records", "forward": "forward"}), store, more)
    assert len(more.calls) == 5 * 4 * 2
    other = Trainer(planted(1.5), noise=0.001)
    study(plan_of(sequences={"count": 5, "first": 5}), store, other)
    assert len(other.calls) == 100


def test_estimates_count_each_run_once(tmp_path: Path) -> None:
    plan, store = plan_of(), FakeStore(tmp_path)
    cost = estimate_sequence(plan, store, workers=2)
    assert (cost["runs"], cost["found"], cost["workers"], cost["verdict"]) == (100, 0, 2, True)
    each = cost["seconds_per_step"]["mlp"]
    steps = 5 * (1 + 2 * 2) * (40 + 80 + 160 + 320)
    assert cost["hours"] == pytest.approx(steps * each / 2 / 3600)


# ---- what is charged -----------------------------------------------------------------------------------------------


def test_costs_add_up_exactly_to_the_block_times_steps_plus_what_is_paid_once(tmp_path: Path) -> None:
    plan = plan_of(arms={"scratch": "scratch", "records": {"reuse": "records", "length": 0.5}})
    store, train = FakeStore(tmp_path), Trainer(planted(2.0), noise=0.002, once=0.125)
    prices = priced(plan, {name_of(plan, "records"): 1.3}, each=0.002)
    result = study(plan, store, train, prices=prices, own_clock=False).result
    for row in result["runs"]:
        whole = int(row["duration"][:-2])
        follower = row["arm"] == "records" and row["position"] > 1
        steps = whole // 2 if follower else whole
        assert row["steps"] == steps
        assert row["one_off"] == (0.125 if follower else 0.0)
        price = 0.002 * 1.3 if follower else 0.002
        assert row["seconds"] == pytest.approx(steps * price + row["one_off"], rel=1e-12)
    for point in result["points"]:
        whole = int(point["duration"][:-2])
        expected = whole * 0.002 * 3
        if point["arm"] == "records":
            expected = whole * 0.002 + 2 * (whole / 2 * 0.0026 + 0.125)
        assert point["seconds"] == pytest.approx(expected, rel=1e-12)
        own = [r for r in result["runs"] if all(r[k] == point[k] for k in ("arm", "duration", "sequence"))]
        assert own[-1]["cumulated"] == pytest.approx(point["seconds"], rel=1e-12)
        assert point["quality"] == pytest.approx(sum(r["quality"] for r in own) / 3, rel=1e-12)
        assert point["steps"] == own[-1]["cumulated_steps"] == sum(r["steps"] for r in own)
    cell = next(c for c in result["positions"] if (c["arm"], c["position"]) == ("records", 2))
    assert cell["ratio"] == pytest.approx(1.3)
    assert cell["ratio_low"] < 1.3 < cell["ratio_high"]


def test_the_blocks_error_counts_by_the_share_of_the_seconds_that_it_prices(tmp_path: Path) -> None:
    from reinvest.studies.sequence_chain import chains_of
    from reinvest.studies.sequence_checks import policies_of
    from reinvest.studies.sequence_cost import timing_of
    from reinvest.studies.sequence_points import charges_of

    plan = plan_of(durations=["40st"])
    store, train = FakeStore(tmp_path), Trainer(planted(2.0))
    study(plan, store, train)
    chains = chains_of(plan, policies_of(plan))
    for chain in chains:
        chain.advance(store)
    prices = priced(plan, {name_of(plan, "records"): 2.0}, variance=0.01)
    timing = timing_of(plan, chains, prices, charges_of(plan, chains, prices))
    # Two followers at twice the price of the first run: 4/5 of the seconds carry the block's error.
    assert timing == {"records": {"log_ratio_variance": pytest.approx(0.8**2 * 0.01), "df": pytest.approx(7.0)}}


def test_prices_of_one_block_err_together(tmp_path: Path) -> None:
    from reinvest.studies.sequence_chain import chains_of
    from reinvest.studies.sequence_checks import policies_of
    from reinvest.studies.sequence_cost import price_name, timing_of
    from reinvest.studies.sequence_points import charges_of

    plan = plan_of(durations=["40st"], arms={"scratch": "scratch", "hard": "high-loss"})
    store = FakeStore(tmp_path)
    study(plan, store, Trainer(planted(2.0)))
    chains = chains_of(plan, policies_of(plan))
    for chain in chains:
        chain.advance(store)
    chain = next(c for c in chains if c.arm == "hard")
    names = [price_name(chain.recipe(k), plan.recipe(k, "40st"), store.get, k) for k in (1, 2)]
    assert names[0] != names[1]
    prices = priced(plan, dict.fromkeys(names, 2.0), variance=0.01, teachers=store.get)
    timing = timing_of(plan, chains, prices, charges_of(plan, chains, prices))
    # Both are ratios to the same steps from scratch: 4/5 of the seconds carry one error, not two that even out.
    assert timing == {"hard": {"log_ratio_variance": pytest.approx(0.8**2 * 0.01), "df": pytest.approx(7.0)}}


def test_own_clocks_charge_the_seconds_of_the_runs(tmp_path: Path) -> None:
    plan, store = plan_of(), FakeStore(tmp_path)
    result = study(plan, store, Trainer(planted(2.0), noise=0.002, once=0.5)).result
    assert result["timing"] == []
    assert any("own clocks" in flag for flag in result["flags"])
    for point in result["points"]:
        paid = 1.0 if point["arm"] == "records" else 0.0
        assert point["seconds"] == pytest.approx(3 * int(point["duration"][:-2]) * STEP + paid)
    assert {r["ratio"] for r in result["runs"]} == {None}


# ---- what is found -------------------------------------------------------------------------------------------------


def test_a_planted_speed_up_is_found_and_its_interval_holds_it(tmp_path: Path) -> None:
    store = FakeStore(tmp_path)
    plan = plan_of()
    plan = plan_of(teachers={"pool": [outside(store, plan, 3.0).id], "cost": "sunk"})
    # With a pool from outside every run of the arm re-uses, so the whole sequence is twice as fast.
    result = study(plan, store, Trainer(planted(2.0), noise=0.003)).result
    arm = result["arms"]["records"]
    assert arm["verdict"] == "better"
    assert arm["interval"][0] < 2.0 < arm["interval"][1]
    assert arm["speedup"] == pytest.approx(2.0, rel=0.1)
    assert arm["relative_time"] == pytest.approx(1 / arm["speedup"])
    assert arm["relative_time_interval"] == pytest.approx([1 / arm["interval"][1], 1 / arm["interval"][0]])
    assert arm["judged"]["pairing"] == "pairs by duration"
    assert arm["policies"] == ["records"] * 3


def test_only_followers_are_faster_where_there_is_no_pool(tmp_path: Path) -> None:
    plan, store = plan_of(), FakeStore(tmp_path)
    result = study(plan, store, Trainer(planted(2.0), noise=0.003)).result
    arm = result["arms"]["records"]
    # The mean of a sequence is (Q(t) + 2 Q(2 t)) / 3, which scratch reaches at t x S.
    at = 120.0
    quality = (curve(at) + 2 * curve(2 * at)) / 3
    truth = 40 * ((0.97 - quality) / 0.20) ** (-1 / 0.6) / at
    assert 1.5 < truth < 1.7
    assert arm["interval"][0] < truth < arm["interval"][1]
    assert arm["verdict"] == "better"


def test_nothing_is_found_where_nothing_was_planted(tmp_path: Path) -> None:
    # Own noise of the arm: the same seed gives the same noise otherwise, and two equal arms would not vary.
    def quality(recipe: Any, steps: int) -> float:
        return curve(steps) + (
            0.003 * math.sin(zlib.crc32(recipe.canonical().encode()) % 1000) if taught(recipe) else 0.0
        )

    plan, store = plan_of(), FakeStore(tmp_path)
    result = study(plan, store, Trainer(quality, noise=0.004)).result
    assert result["arms"]["records"]["verdict"] in ("inconclusive", "equivalent")
    assert result["arms"]["records"]["drift"]["verdict"] == "none shown"


def test_a_pool_is_charged_in_full_or_as_sunk_and_breaks_even_after_a_count(tmp_path: Path) -> None:
    store = FakeStore(tmp_path)
    run = outside(store, plan_of(), 50.0)
    results = {}
    for cost in ("sunk", "charged"):
        plan = plan_of(title=cost, teachers={"pool": [run.id], "cost": cost})
        results[cost] = study(plan, store, Trainer(planted(2.0), noise=0.003)).result
    sunk, charged = (results[c]["arms"]["records"] for c in ("sunk", "charged"))
    assert sunk["verdict"] == sunk["marginal"]["verdict"] == charged["marginal"]["verdict"] == "better"
    assert charged["verdict"] == charged["full"]["verdict"] == sunk["full"]["verdict"] != "better"
    seconds = {c: [p["seconds"] for p in results[c]["points"] if p["arm"] == "records"] for c in ("sunk", "charged")}
    assert [b - a for a, b in zip(*seconds.values(), strict=True)] == pytest.approx([50.0] * 20)
    own = sum(seconds["sunk"]) / 20
    for arm in (sunk, charged):
        assert arm["break_even"]["sequences"] == math.ceil(50.0 / (own * (sunk["speedup"] - 1)))
        assert arm["break_even"]["low"] <= arm["break_even"]["sequences"] <= arm["break_even"]["high"]
    assert results["sunk"]["teachers"] == {"seconds": 50.0, "runs": [run.id], "cost": "sunk"}
    assert any("same 1 runs from outside" in flag for flag in results["sunk"]["flags"])


def test_an_arm_that_uses_no_run_from_outside_is_not_charged_for_any(tmp_path: Path) -> None:
    store = FakeStore(tmp_path)
    arms = {"scratch": "scratch", "half": {"reuse": "scratch", "length": 0.5}, "records": "records"}
    plan = plan_of(arms=arms, teachers={"pool": [outside(store, plan_of(), 50.0).id[:8]], "cost": "charged"})
    result = study(plan, store, Trainer(planted(2.0), noise=0.003)).result
    for point in result["points"]:
        own = [r["seconds"] for r in result["runs"] if all(r[k] == point[k] for k in ("arm", "duration", "sequence"))]
        extra = 50.0 if point["arm"] == "records" else 0.0
        assert point["seconds"] == pytest.approx(sum(own) + extra)
    assert {"full", "marginal", "break_even"} <= result["arms"]["records"].keys()
    assert not {"full", "marginal", "break_even"} & result["arms"]["half"].keys()


def test_what_advise_chose_is_told_of_every_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reinvest.studies import advise

    def follow(recipe: Any, past: Any) -> Any:
        """Records of the newest run, and nothing for the longest runs."""
        return recipe if recipe.duration == "320st" else apply("records", recipe, past)

    monkeypatch.setattr(advise, "follow", follow)
    plan, store = plan_of(arms={"scratch": "scratch", "told": "advise", "warm": "warm start"}), FakeStore(tmp_path)
    result = study(plan, store, Trainer(planted(2.0), noise=0.003)).result
    for row in result["runs"]:
        assert row["methods"] == store.get(row["run"]).config["methods"]
        taught_here = row["arm"] == "told" and row["position"] > 1 and row["duration"] != "320st"
        assert [m.get("source") for m in row["methods"]] == (
            ["records"] if taught_here else [None] * (row["arm"] == "warm" and row["position"] > 1)
        )
    # 5 sequences x 2 followers at each of 4 durations.
    assert result["arms"]["told"]["chosen"] == [
        {"methods": "Distill (records)", "runs": 30},
        {"methods": "nothing", "runs": 10},
    ]
    assert "chosen" not in result["arms"]["warm"] and "chosen" not in result["arms"]["scratch"]
    shown = io.StringIO()
    print_sequence(result, Console(file=shown, width=200, highlight=False))
    assert "told: advise chose Distill (records) in 30 runs, nothing in 10 runs\n" in shown.getvalue()
    page = render_sequence(result)
    assert "Advise chose Distill (records) in 30 runs, nothing in 10 runs." in page
    taught_run = next(r for r in result["runs"] if r["methods"] and r["arm"] == "told")
    cells = re.findall(r'<td class="left">advise: Distill teacher ([0-9a-f]{16}), source records</td>', page)
    assert len(cells) == 30 and taught_run["methods"][0]["teacher"] in cells
    assert page.count('<td class="left">advise: nothing</td>') == 10
    assert page.count('<td class="left">warm start</td>') == 40
    # A result of an earlier version says nothing of it, and its page is drawn all the same.
    for row in result["runs"]:
        row.pop("methods")
    result["arms"]["told"].pop("chosen")
    assert "dvise chose" not in render_sequence(result).partition("<script>")[0]


def test_three_durations_give_differences_and_no_verdict(tmp_path: Path) -> None:
    plan, store = plan_of(durations=["40st", "80st", "160st"]), FakeStore(tmp_path)
    lift = Trainer(lambda recipe, steps: curve(steps) + (0.01 if taught(recipe) else 0.0), noise=0.003)
    result = study(plan, store, lift).result
    assert result["arms"]["records"]["verdict"] is None
    assert result["arms"]["records"]["judged"] is None
    assert any("no verdict about time" in flag for flag in result["flags"])
    assert len(result["at_durations"]) == 3
    for row in result["at_durations"]:
        # Equal seeds, equal noise: the paired difference is the lift of two runs in three, without any spread.
        assert row["gain"] == pytest.approx(0.01 * 2 / 3)
        assert row["gain_low"] == pytest.approx(row["gain_high"])
        assert row["cost_ratio"] == pytest.approx(1.0)


def test_few_sequences_are_an_estimate(tmp_path: Path) -> None:
    result = study(plan_of(sequences=3), FakeStore(tmp_path), Trainer(planted(2.0), noise=0.003)).result
    assert any(flag.startswith("an estimate: 3 sequences") for flag in result["flags"])
    full = study(plan_of(title="five"), FakeStore(tmp_path), Trainer(planted(2.0), noise=0.003)).result
    assert not any("estimate" in flag for flag in full["flags"])


def test_a_target_costs_what_the_curve_says(tmp_path: Path) -> None:
    plan, store = plan_of(target=curve(100)), FakeStore(tmp_path)
    result = study(plan, store, Trainer(planted(1.0))).result
    for arm in result["target"]["arms"].values():
        # Between cells the curve is taken as straight in log time.
        share = (curve(100) - curve(80)) / (curve(160) - curve(80))
        steps = 80 * 2**share
        assert [p["steps"] for p in arm["positions"]] == pytest.approx([steps] * 3)
        assert arm["steps"] == pytest.approx(3 * steps)
        assert arm["seconds"] == pytest.approx(3 * steps * STEP)
    never = study(plan_of(target=0.99, title="never"), store, Trainer(planted(1.0))).result
    assert never["target"]["arms"]["records"]["seconds"] is None


def test_a_run_that_diverges_ends_its_sequence_and_is_counted(tmp_path: Path) -> None:
    plan = plan_of()
    lost = seed_of(0, 1, "40st")
    train = Trainer(planted(2.0), noise=0.003, diverges=lambda recipe, seed: taught(recipe) and seed == lost)
    result = study(plan, FakeStore(tmp_path), train).result
    assert len(train.calls) == 99
    point = next(p for p in result["points"] if (p["arm"], p["duration"], p["sequence"]) == ("records", "40st", 0))
    assert (point["status"], point["quality"]) == ("diverged", None)
    assert result["arms"]["records"]["verdict"] == "better"
    assert any("1 diverged of 20" in flag for flag in result["arms"]["records"]["judged"]["flags"])


def test_runs_of_another_machine_are_not_compared(tmp_path: Path) -> None:
    plan, store = plan_of(), FakeStore(tmp_path)
    study(plan, store, Trainer(planted(2.0), noise=0.003))
    for run in store.runs.values():
        if run.config["methods"]:
            run.facts = {"hardware": {"device": "another"}, "software": {"torch": "2.13.0"}}
    result = study(plan, store, Trainer(planted(2.0))).result
    assert result["arms"]["records"]["verdict"] == "not comparable"
    assert "equal device" in result["arms"]["records"]["judged"]["reasons"][0]


def test_too_few_hours_keep_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class HourGlass:
        looks = 0

        def monotonic(self) -> float:
            self.looks += 1
            return 3600.0 * self.looks

    plan, store = plan_of(), FakeStore(tmp_path)
    monkeypatch.setattr("reinvest.studies.sequence_chain.time", HourGlass())
    train = Trainer(planted(2.0), noise=0.003)
    with pytest.raises(InvalidValue, match="3 whole sequences, got 1 within --max-hours 2"):
        study(plan, store, train, max_hours=2.0)
    assert len(train.calls) == 20
    result = study(plan, store, train, max_hours=7.0).result
    assert {p["sequence"] for p in result["points"]} == {0, 1, 2, 3}
    assert result["sequences"] == 4
    assert any("stopped after 4 of 5 sequences" in flag for flag in result["flags"])


# ---- what is kept --------------------------------------------------------------------------------------------------


def test_the_result_is_strict_json_kept_in_the_store_and_rebuilds_its_plan(tmp_path: Path) -> None:
    from reinvest.studies.sequence_result import read_sequence

    plan = plan_of(title="Planted: 2x & more", target=0.9)
    done = study(plan, FakeStore(tmp_path), Trainer(planted(2.0), noise=0.003))
    assert done.path == tmp_path / "studies" / "planted-2x-more.json"
    text = done.path.read_text()
    json.loads(text, parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))
    assert read_sequence(done.path) == done.result
    assert SequencePlan.from_dict(done.result["plan"]) == plan
    kept = done.result
    assert (kept["kind"], kept["setting"], kept["same_model"], kept["task"], kept["model"], kept["length"]) == (
        "sequence", "no new data", True, "digits", "mlp", 3,
    )  # fmt: skip
    assert set(done.verdicts) == {"scratch", "records"}
    assert done.verdicts["scratch"] is None
