"""`reinvest verdict POINTS.csv`: a verdict for good points, one sentence or a reason for bad ones."""

from __future__ import annotations

import json
import math
import random
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from calling import Call

import reinvest as ri

Row = dict[str, Any]
DURATIONS = (10, 20, 40, 80)
CSV = Path(__file__).parents[2] / "examples" / "points.csv"


def rows(faster: float = 1.5, seeds: int = 4) -> list[Row]:
    """Points of a baseline and of an arm that needs 1 / faster of the time."""
    draw = random.Random(0)
    out = []
    for arm, speed in (("plain", 1.0), ("smooth", faster)):
        for duration in DURATIONS:
            for k in range(seeds):
                error = 0.05 + 0.3 * (duration * speed / 10) ** -0.7 + draw.gauss(0, 0.004)
                out.append({
                    "arm": arm, "duration": f"{duration}ep", "seed": 1000 * len(out) + k, "seconds": float(duration),
                    "quality": 1 - error, "steps": 16 * duration, "status": "finished",
                })  # fmt: skip
    return out


def write(points: list[Row], path: Path = Path("points.csv")) -> None:
    names = list(points[0])
    lines = [",".join(names), *(",".join(str(p[n]) for n in names) for p in points)]
    path.write_text("\n".join(lines) + "\n")


def test_the_verdict_is_that_of_the_function(call: Call) -> None:
    points = rows()
    write(points)
    said = call("verdict", "points.csv", "--baseline", "plain", "--json")
    assert said.code == 0
    expected = ri.verdict(points, baseline="plain")["smooth"].to_dict()
    assert said.data["smooth"].keys() == expected.keys()
    assert said.data["smooth"]["verdict"] == "better"
    for key in ("speedup", "low", "high", "gain"):
        assert math.isclose(said.data["smooth"][key], expected[key], rel_tol=1e-9)


def test_runs_at_different_paces_are_told(call: Call) -> None:
    points = rows()
    points[2]["seconds"] *= 3
    write(points)
    said = call("verdict", "points.csv", "--baseline", "plain", "--out", "v.html")
    words = "plain: seconds a step differ between runs, 3 times the middle one at (duration 10ep, seed 2002)"
    assert said.code == 0 and words in " ".join(said.out.split())
    assert words in Path("v.html").read_text(encoding="utf8")


def test_the_table_shows_verdict_interval_and_reasons(call: Call) -> None:
    write(rows())
    said = call("verdict", "points.csv", "--baseline", "plain")
    assert said.code == 0
    for expected in ("smooth", "better", "times faster at equal quality", "timing not checked"):
        assert expected in said.out


def test_a_report_and_its_twin_are_written_when_asked(call: Call) -> None:
    write(rows())
    said = call("verdict", "points.csv", "--baseline", "plain", "--out", "v.html", "--json")
    assert said.data["smooth"]["verdict"] == "better"
    assert "<html" in Path("v.html").read_text(encoding="utf8")
    again = call("report", "v.json", "--out", "again.html", "--json")
    assert again.data["verdicts"]["smooth"]["verdict"] == "better"
    assert "a folder that exists" in call("verdict", "points.csv", "--baseline", "plain", "--out", "no/v.html").sentence
    assert "an HTML file" in call("report", "v.json", "--out", "v.pdf").sentence


def test_losses_tuning_and_pairs_are_declared(call: Call) -> None:
    write([{**p, "quality": 1 - p["quality"]} for p in rows()])
    words = ("verdict", "points.csv", "--baseline", "plain", "--metric", "loss", "--lower-is-better", "--json")
    assert call(*words).data["smooth"]["verdict"] == "better"
    unequal = call(*words, "--tuning", "plain=10", "--tuning", "smooth=40")
    assert unequal.code == 3
    assert unequal.data["smooth"]["verdict"] == "not comparable"
    assert call(*words, "--tuning", "plain=10", "--tuning", "smooth=10").data["smooth"]["verdict"] == "better"
    for bad in ("plain", "plain=ten", "=3"):
        assert "--tuning is ARM=TRIALS" in call(*words[:-1], "--tuning", bad).sentence
    assert 'pairs must be None or "duration"' in call(*words[:-1], "--pairs", "seed").sentence


def drop(points: list[Row], name: str) -> list[Row]:
    return [{k: v for k, v in p.items() if k != name} for p in points]


def change(index: int, **values: Any) -> Callable[[list[Row]], list[Row]]:
    return lambda points: [{**p, **values} if k == index else p for k, p in enumerate(points)]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (change(20, quality="nan"), "finite"),
        (change(20, quality="high"), "finite"),
        (change(20, seconds=-3.0), "seconds"),
        (change(20, seconds="inf"), "seconds"),
        (lambda points: [*points, points[20]], "seed"),
        (lambda points: [{**p, "status": "diverged"} if p["arm"] == "smooth" else p for p in points], "finished"),
        (lambda points: [p for p in points if p["seed"] % 1000 < 2], "seeds"),
        (lambda points: [p for p in points if p["duration"] != "20ep"], "durations"),
        (lambda points: [{**p, "metric": "accuracy" if k else "loss"} for k, p in enumerate(points)], "metric"),
    ],
)
def test_points_that_cannot_be_compared_get_reasons(
    call: Call, spoil: Callable[[list[Row]], list[Row]], reason: str
) -> None:
    write(spoil(rows()))
    said = call("verdict", "points.csv", "--baseline", "plain", "--json")
    assert said.code == 3
    judged = said.data["smooth"]
    assert judged["verdict"] == "not comparable"
    assert reason in " ".join(judged["reasons"])
    text = call("verdict", "points.csv", "--baseline", "plain")
    assert text.code == 3
    assert "not comparable" in text.out


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b"arm,duration,seed,seconds,quality\n", "at least one row"),
        (b"arm,seed,quality\nplain,1,0.5\n", "lacks duration, seconds"),
        (bytes(range(256)) * 8, "readable CSV text"),
        (b"arm,duration,seed,seconds,quality\nplain,1ep,1,2.0,0.5\n", "an arm besides the baseline"),
        (b"arm,duration,seed,seconds,quality\n,1ep,1,2.0,0.5\n", "needs an arm"),
    ],
)
def test_a_file_that_holds_no_points_is_refused(call: Call, content: bytes, expected: str) -> None:
    Path("points.csv").write_bytes(content)
    said = call("verdict", "points.csv", "--baseline", "plain")
    assert said.code == 2
    assert expected in said.sentence


@pytest.mark.parametrize("steps", ["inf", "-inf", "nan", "", "many", "1e400", "1_000"])
def test_steps_that_are_no_count_are_unknown(call: Call, steps: str) -> None:
    write([{**p, "steps": steps, "status": "ok"} for p in rows()])
    said = call("verdict", "points.csv", "--baseline", "plain", "--out", "v.html", "--json")
    assert said.code == 0
    points = json.loads(Path("v.json").read_text(encoding="utf8"))["arms"]["smooth"]["points"]
    assert {(p["steps"], p["status"]) for p in points} == {(1000 if steps == "1_000" else None, "finished")}


def test_the_command_on_the_page_gives_the_same_verdict_again(call: Call) -> None:
    write([{**p, "quality": 10 * (1 - p["quality"])} for p in rows()])
    declared = (
        *("--baseline", "plain", "--metric", "gap", "--lower-is-better", "--pairs", "duration", "--margin", "0.8"),
        *("--tuning", "plain=10", "--tuning", "smooth=10", "--test-examples", "500"),
    )
    said = call("verdict", "points.csv", *declared, "--out", "v.html", "--json")
    command = json.loads(Path("v.json").read_text(encoding="utf8"))["reproduce"]["command"]
    assert said.code == 0 and shlex.split(command)[0] == "reinvest"
    assert call(*shlex.split(command)[1:], "--json").data == said.data


def test_a_missing_file_and_an_unknown_baseline_are_refused(call: Call) -> None:
    assert "check the path" in call("verdict", "none.csv", "--baseline", "plain").sentence
    assert "check the path" in call("verdict", ".", "--baseline", "plain").sentence
    write(rows())
    said = call("verdict", "points.csv", "--baseline", "plane")
    assert said.code == 2
    assert "did you mean 'plain'?" in said.sentence


def test_one_arm_refused_and_one_judged_is_a_verdict(call: Call) -> None:
    points = rows()
    broken = [{**p, "arm": "broken", "seconds": -1.0} for p in points if p["arm"] == "smooth"]
    write([*points, *broken])
    said = call("verdict", "points.csv", "--baseline", "plain", "--json")
    assert said.code == 0
    assert {arm: v["verdict"] for arm, v in said.data.items()} == {"smooth": "better", "broken": "not comparable"}


def test_judging_points_needs_no_torch(call: Call) -> None:
    write(rows())
    code = "import sys; from reinvest.cli.main import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", code, "verdict", "points.csv", "--baseline", "plain"]
    subprocess.run(command, check=True, capture_output=True)


def test_the_example_file_gets_a_verdict(call: Call) -> None:
    said = call("verdict", str(CSV), "--baseline", "plain", "--json")
    assert said.code == 0
