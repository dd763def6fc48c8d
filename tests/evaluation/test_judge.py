"""The verdict on simulated points: equal to the literal definition, and the properties it must have exactly."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest
import reference_verdict
import simulated_points as sim
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.evaluation import Verdict, mean_curve, predict, verdict
from reinvest.evaluation.outcome import level_text

OPPOSITE = {"better": "worse", "worse": "better"}
quick = settings(max_examples=25, deadline=None, derandomize=True, database=None)


@st.composite
def drawn_points(draw: st.DrawFn, fewest: int = 4) -> list[dict]:
    """Two arms with unlike noise, speed, durations and numbers of seeds."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    curve = draw(st.sampled_from([sim.standard, sim.saturating, sim.flat]))
    method = sim.faster(curve, draw(st.sampled_from([0.6, 0.9, 1.0, 1.2, 2.0])))
    sd = draw(st.sampled_from([0.0005, 0.004, 0.02]))
    times = sim.durations(draw(st.integers(4, 6)))
    own = sim.durations(draw(st.integers(fewest, 6)), first=draw(st.sampled_from([60.0, 75.0, 110.0])))
    rows = sim.arm_points("a", curve, times, draw(st.integers(3, 6)), sd, rng)
    rows += sim.arm_points("b", method, own, draw(st.integers(3, 6)), 1.5 * sd, rng, first_seed=1000)
    for row in rows:
        row["seconds"] *= float(np.exp(0.01 * rng.standard_normal()))
    return rows


def close(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-8)


def assert_same(one: Verdict, two: Verdict) -> None:
    assert one.verdict == two.verdict
    for name in (
        "speedup",
        "low",
        "high",
        "gain",
        "gain_low",
        "gain_high",
        "df",
        "smallest_effect",
        "flat_fraction",
    ):
        assert close(getattr(one, name), getattr(two, name)), name
    for w1, w2 in zip(one.windows, two.windows, strict=True):
        assert all(close(getattr(w1, name), getattr(w2, name)) for name in ("speedup", "low", "high"))


@pytest.mark.parametrize("number", range(8))
def test_equal_to_the_literal_definition(number: int) -> None:
    rng = np.random.default_rng(number)
    curve = [sim.standard, sim.saturating, sim.overtrained(sim.standard, 0.02, 960.0), sim.flat][number % 4]
    rows = sim.two_arms(curve, sim.faster(sim.standard, [1.0, 1.1, 0.8][number % 3]), rng, n=3 + number % 3)
    rows = [row for row in rows if not (number > 4 and row["arm"] == "b" and row["duration"] in "04")]
    if number % 2:
        for row in rows:
            row["seconds"] *= float(np.exp(0.02 * rng.standard_normal()))
    v = verdict(rows, "a")["b"]
    assert (v.low, v.high) == pytest.approx(reference_verdict.interval(rows, "a", "b"), rel=1e-9)
    for number, window in enumerate(v.windows, start=1):
        expected = reference_verdict.interval(rows, "a", "b", window=number, alpha=1 - 0.95 ** (1 / 3))
        assert (window.low, window.high) == pytest.approx(expected, rel=1e-9)


@quick
@given(drawn_points())
def test_swap_inverts(rows: list[dict]) -> None:
    one, two = verdict(rows, "a")["b"], verdict(rows, "b")["a"]
    assert two.verdict == OPPOSITE.get(one.verdict, one.verdict)
    assert close(two.speedup, 1 / one.speedup)
    assert close(two.low, 1 / one.high) and close(1 / two.high, one.low)
    for w1, w2 in zip(one.windows, two.windows, strict=True):
        assert close(w2.low, 1 / w1.high) and close(1 / w2.high, w1.low)


@quick
@given(drawn_points(fewest=2), st.floats(1e-3, 1e4), st.randoms())
def test_rescaled_time_and_order_of_rows_change_nothing(rows: list[dict], factor: float, random: object) -> None:
    one = verdict(rows, "a")["b"]
    scaled = [{**row, "seconds": row["seconds"] * factor} for row in rows]
    random.shuffle(scaled)
    two = verdict(scaled, "a")["b"]
    assert_same(one, two)
    for w1, w2 in zip(one.windows, two.windows, strict=True):
        assert w2.seconds == pytest.approx([s * factor for s in w1.seconds], rel=1e-8)


@quick
@given(drawn_points(fewest=2))
def test_estimate_inside_interval_and_json(rows: list[dict]) -> None:
    v = verdict(rows, "a")["b"]
    for part in (v, *v.windows):
        assert 0.0 <= part.low <= part.high
        assert math.isnan(part.speedup) or part.low <= part.speedup <= part.high
    if v.verdict != "not comparable":
        assert v.gain_low <= v.gain <= v.gain_high
        assert (v.gain_low > 0) == (v.low > 1) and (v.gain_high < 0) == (v.high < 1)
    again = json.loads(json.dumps(v.to_dict(), allow_nan=False))
    assert again["verdict"] == v.verdict and again["sentence"] == v.sentence and again["reasons"] == list(v.reasons)


@st.composite
def nasty_points(draw: st.DrawFn) -> list[dict]:
    """Good points with a few cells overwritten by values that files really hold."""
    rows = draw(drawn_points(fewest=1))
    values = {
        "seconds": [0, -1.0, 1e-300, 1e300, math.nan, math.inf, None, "", "abc", "60"],
        "quality": [0.0, 1.0, -5.0, -1e300, 1e300, 2.0, math.nan, -math.inf, None, "nan", 1 - 1e-16],
        "status": ["diverged", "FINISHED", "failed", None, math.nan, "running"],
        "duration": ["", None, 7, 7.0, "0"],
        "seed": [None, 0, "0", 0.0, -1],
        "trunk": ["t", 1, None],
        "study": ["s", 2],
        "metric": ["accuracy", "f1"],
        "steps": [0, -1, math.nan, 10, "x"],
    }
    for _ in range(draw(st.integers(1, 6))):
        column = draw(st.sampled_from(sorted(values)))
        value = draw(st.sampled_from(values[column]))
        whole = draw(st.sampled_from(["row", "cell", "arm"]))
        chosen = draw(st.sampled_from(rows))
        for row in rows:
            same_cell = (row["arm"], row["duration"]) == (chosen["arm"], chosen["duration"])
            if row is chosen or (whole == "cell" and same_cell) or (whole == "arm" and row["arm"] == chosen["arm"]):
                row[column] = value
    return rows


@settings(quick, max_examples=80)
@given(nasty_points(), st.booleans(), st.sampled_from([None, "duration"]), st.sampled_from([None, 500]))
def test_faults_in_the_data_never_raise(rows: list[dict], higher: bool, pairs: str | None, test: int | None) -> None:
    options = {"higher_is_better": higher, "metric": "accuracy" if higher else "loss", "test_examples": test}
    v = verdict(rows, "a", pairs=pairs, **options)["b"]
    json.dumps(v.to_dict(), allow_nan=False)
    assert v.reasons and all(v.reasons)
    assert v.low <= v.high and (math.isnan(v.speedup) or v.low <= v.speedup <= v.high)
    for arm in "ab":
        curve = mean_curve(rows, arm, **options)
        json.dumps([curve.to_dict(), [cell.to_dict() for cell in curve.cells]], allow_nan=False)
    drawn = predict(rows, baseline="a", arm="b", **options)
    json.dumps(drawn and drawn.to_dict(), allow_nan=False)


@quick
@given(drawn_points(), st.sampled_from([None, "duration"]), st.booleans())
def test_copy_of_the_baseline_is_a_tie(rows: list[dict], pairs: str | None, repeat: bool) -> None:
    base = [row for row in rows if row["arm"] == "a"]
    if repeat:
        n = len({row["seed"] for row in base if row["duration"] == "0"})
        base = [{**row, "seed": row["seed"] % n} for row in base]
    v = verdict(base + [{**row, "arm": "b"} for row in base], "a", pairs=pairs)["b"]
    assert v.speedup == 1.0 and v.gain == 0.0
    assert v.verdict in ("inconclusive", "equivalent")
    assert v.low <= 1.0 <= v.high


def test_a_doubled_set_of_seeds_narrows() -> None:
    rows = sim.two_arms(sim.standard, sim.faster(sim.standard, 1.1), np.random.default_rng(3), n=4)
    one, two = (
        verdict(rows, "a")["b"],
        verdict(rows + [{**r, "seed": r["seed"] + 10**6} for r in rows], "a")["b"],
    )
    assert one.low < two.low < two.speedup < two.high < one.high
    assert two.speedup == pytest.approx(one.speedup, rel=1e-12)


def test_far_better_gives_a_bound_and_no_estimate() -> None:
    rng = np.random.default_rng(0)
    rows = sim.two_arms(sim.standard, sim.lifted(sim.standard, 0.1), rng, n=3, sd=0.0005)
    v = verdict(rows, "a")["b"]
    assert v.verdict == "better" and math.isnan(v.speedup) and v.high == math.inf
    assert v.low == pytest.approx(4.0, rel=1e-9)  # half of a range of x16: never more than x4
    assert v.sentence == "At least 4 times faster at equal quality."
    mirrored = verdict(rows, "b")["a"]
    assert mirrored.verdict == "worse" and mirrored.low == 0.0 and mirrored.high == pytest.approx(0.25)
    assert v.to_dict()["high"] is None and mirrored.to_dict()["low"] is None


def test_flat_baseline_gives_verdicts_from_quality_alone() -> None:
    rows = sim.two_arms(sim.flat, sim.lifted(sim.flat, 0.9), np.random.default_rng(0), n=10, sd=0.002)
    v = verdict(rows, "a")["b"]
    assert v.verdict == "better" and v.low > 1 and v.high == math.inf and v.gain == pytest.approx(0.008, abs=0.002)


def test_crossing_is_mixed_and_says_where() -> None:
    method = sim.crossing(sim.standard, 1.2, 1 / 1.2, sim.durations(5))
    v = verdict(sim.two_arms(sim.standard, method, np.random.default_rng(0), n=10, sd=0.001), "a")["b"]
    assert v.verdict == "mixed"
    assert v.sentence.startswith("Faster in the short runs and slower in the long runs")
    assert [w.name for w in v.windows] == ["short", "middle", "long"]


def test_equivalent_and_inconclusive() -> None:
    same = verdict(sim.two_arms(sim.standard, sim.standard, np.random.default_rng(1), n=10, sd=0.0003), "a")["b"]
    assert same.verdict == "equivalent" and "within 5 %" in same.sentence
    noisy = verdict(sim.two_arms(sim.standard, sim.standard, np.random.default_rng(5), n=3, sd=0.008), "a")["b"]
    assert noisy.verdict == "inconclusive"
    assert noisy.sentence.startswith("No difference could be shown; this design would have seen 1.")
    # The error falls with the root of the seeds; with ever more of them Student's quantile falls to the normal one.
    most = 3 * (math.log(noisy.smallest_effect) / math.log(noisy.speedup)) ** 2
    least = most * ((1.960 + 0.842) / (float(stats.t.ppf(0.975, noisy.df)) + 0.842)) ** 2
    assert noisy.seeds_needed is not None and 0.9 * least < noisy.seeds_needed < 1.1 * most


def test_better_reads_as_a_sentence() -> None:
    rows = sim.two_arms(sim.standard, sim.faster(sim.standard, 1.2), np.random.default_rng(1), n=5)
    v = verdict(rows, "a")["b"]
    assert v.verdict == "better"
    assert v.sentence == f"{v.speedup:.3g} times faster at equal quality (95 % interval {v.low:.3g} to {v.high:.3g})."
    assert v.smallest_effect == pytest.approx(1.09, abs=0.03)
    assert any("timing not checked" in flag for flag in v.flags)


def test_loss_is_judged_on_its_logarithm() -> None:
    rows = sim.two_arms(sim.standard, sim.faster(sim.standard, 1.2), np.random.default_rng(1), n=5)
    losses = [{**row, "quality": 1.0 - row["quality"]} for row in rows]
    one = verdict(rows, "a")["b"]
    for metric in ("loss", "val_loss", "Error", "word error rate", "perplexity", "wer"):
        # 1 - accuracy is a loss: the same scale, and gains are positive when better
        assert_same(one, verdict(losses, "a", metric=metric)["b"])
    curves = [mean_curve(losses, "a", metric="loss", **more).quality for more in ({}, {"higher_is_better": False})]
    np.testing.assert_array_equal(*curves)
    assert curves[0][0] > curves[0][-1]
    guesses = [predict(losses, baseline="a", arm="b", metric="loss", **m) for m in ({}, {"higher_is_better": False})]
    assert guesses[0].to_dict() == guesses[1].to_dict()


def test_a_declared_direction_beats_the_name_of_the_metric() -> None:
    rows = sim.two_arms(sim.standard, sim.faster(sim.standard, 1.2), np.random.default_rng(1), n=5)
    assert_same(verdict(rows, "a")["b"], verdict(rows, "a", metric="loss", higher_is_better=True)["b"])
    assert_same(verdict(rows, "a")["b"], verdict(rows, "a", metric="f1")["b"])


def test_decomposition_into_steps_and_seconds_per_step() -> None:
    rows = sim.two_arms(sim.standard, sim.faster(sim.standard, 1.1 / 1.3), np.random.default_rng(1), n=5)
    for row in rows:
        row["steps"] = row["seconds"] * (10.0 if row["arm"] == "a" else 10.0 / 1.3)
    v = verdict(rows, "a")["b"]
    assert v.seconds_ratio == pytest.approx(1 / 1.3) and v.steps_ratio * v.seconds_ratio == pytest.approx(v.speedup)
    assert v.verdict == "worse" and v.steps_ratio > 1
    assert math.isnan(verdict([{**r, "steps": None} for r in rows], "a")["b"].steps_ratio)


def test_timing_block_widens_once() -> None:
    rows = sim.two_arms(sim.standard, sim.faster(sim.standard, 1.2), np.random.default_rng(1), n=5)
    plain = verdict(rows, "a")["b"]
    exact = verdict(rows, "a", timing={"b": {"log_ratio_variance": 0.0, "df": 9}})["b"]
    wide = verdict(rows, "a", timing={"b": {"log_ratio_variance": 0.05**2, "df": 9}})["b"]
    assert_same(plain, exact)
    assert not any("timing" in flag for flag in exact.flags)
    assert wide.low < exact.low and wide.high > exact.high
    # Seed noise and timing noise add as variances on the log scale.
    seeds, both = math.log(exact.high / exact.low) / 4, math.log(wide.high / wide.low) / 4
    assert both == pytest.approx(math.hypot(seeds, 0.05), rel=0.15)


def test_perfect_cells_need_the_size_of_the_test_set() -> None:
    rows = sim.two_arms(sim.standard, sim.standard, np.random.default_rng(1), n=3)
    rows = [{**r, "quality": 1.0} if r["duration"] == "4" else r for r in rows]
    assert "test_examples" in verdict(rows, "a")["b"].reasons[0]
    assert verdict(rows, "a", test_examples=1000)["b"].verdict != "not comparable"


def test_many_arms_flag_what_holm_would_take_back() -> None:
    rng = np.random.default_rng(1)
    rows = sim.two_arms(sim.standard, sim.faster(sim.standard, 1.4), rng, n=5)
    for i in range(20):
        arm = sim.arm_points(f"c{i}", sim.standard, sim.durations(5), 5, 0.004, rng, first_seed=2000 + 100 * i)
        rows += arm
    out = verdict(rows, "a")
    assert next(iter(out)) == "b" and len(out) == 21
    assert out["b"].verdict == "better" and not any("Holm" in flag for flag in out["b"].flags)
    lucky = [v for v in out.values() if v.arm != "b" and v.verdict in ("better", "worse")]
    assert all(any("Holm" in flag for flag in v.flags) for v in lucky)
    assert list(verdict(rows, "a", arms=["c3"])) == ["c3"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"alpha": 0.0}, "alpha"),
        ({"margin": -1.0}, "margin"),
        ({"rho": float("nan")}, "rho"),
        ({"pairs": "seed"}, "pairs"),
        ({"test_examples": 0}, "test_examples"),
        ({"timing": {"b": {"df": 3}}}, "timing of arm 'b'"),
        ({"timing": {"b": {"log_ratio_variance": -1.0, "df": 3}}}, "log_ratio_variance"),
        ({"tuning": {"b": "many"}}, "tuning of arm 'b'"),
        ({"tuning": {"b": -3}}, "negative"),
    ],
)
def test_bad_settings_raise(options: dict, says: str) -> None:
    rows = sim.two_arms(sim.standard, sim.standard, np.random.default_rng(1))
    with pytest.raises(InvalidValue, match=says):
        verdict(rows, "a", **options)


def test_unknown_arms_raise() -> None:
    rows = sim.two_arms(sim.standard, sim.standard, np.random.default_rng(1))
    with pytest.raises(UnknownName, match=r"unknown arm 'plain'.*Known: a, b"):
        verdict(rows, baseline="plain")
    with pytest.raises(UnknownName, match="unknown arm 'c'"):
        verdict(rows, "a", arms=["c"])


def test_about_ten_milliseconds() -> None:
    rows = sim.two_arms(sim.standard, sim.standard, np.random.default_rng(1), n=5)
    verdict(rows, "a")
    best = math.inf
    for _ in range(15):
        started = time.process_time()
        verdict(rows, "a")
        best = min(best, time.process_time() - started)
    assert best < 0.030


def test_a_level_close_to_one_is_not_said_to_be_one() -> None:
    assert [level_text(v) for v in (0.95, 0.9, 0.984, 0.9993, 1 - 1.08e-6)] == [
        "95 %",
        "90 %",
        "98.4 %",
        "99.93 %",
        "99.99989 %",
    ]
