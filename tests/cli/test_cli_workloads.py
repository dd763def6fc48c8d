"""`reinvest workloads RESULT.json ...`: several comparisons together."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from calling import Call


@pytest.fixture
def results(call: Call) -> Call:
    """Results of `verdict` on two tasks: birds.json, on which a is faster and b diverged, and fish.json."""
    draw = random.Random(0)
    for name, speed in (("birds", 1.5), ("fish", 1.3)):
        lines = ["arm,duration,seed,seconds,quality,status"]
        for arm, faster in (("plain", 1.0), ("a", speed), ("b", 1.0)):
            for duration in (10, 20, 40, 80):
                for _ in range(4):
                    quality = 0.95 - 0.3 * (duration * faster / 10) ** -0.7 + draw.gauss(0, 0.004)
                    ended = "diverged" if arm == "b" and name == "birds" else "finished"
                    lines.append(f"{arm},{duration},{len(lines)},{duration},{quality},{ended}")
        Path(f"{name}.csv").write_text("\n".join(lines) + "\n")
        assert call("verdict", f"{name}.csv", "--baseline", "plain", "--out", f"{name}.html").code == 0
    return call


def test_two_workloads_give_a_table_a_page_and_no_mean(results: Call) -> None:
    said = results("workloads", "birds.json", "fish.json", "--out", "both.html", "--json")
    assert said.code == 0
    assert [w["name"] for w in said.data["workloads"]] == ["birds.csv", "fish.csv"]
    assert said.data["counts"]["a"] == {"better": 2}
    assert said.data["workloads"][0]["arms"]["b"]["verdict"] == "not comparable"
    assert "no claim beyond these workloads" in said.data["means"]["a"]["reason"]
    assert "<html" in Path("both.html").read_text(encoding="utf8")
    stored = json.loads(Path("both.json").read_text(encoding="utf8"))
    assert stored["profiles"] == said.data["profiles"]
    assert results("report", "both.json", "--out", "again.html", "--json").data["kind"] == "workloads"
    text = results("workloads", "birds.json", "fish.json", "--arms", "a")
    assert "2 better" in text.out and "not comparable" not in text.out


def test_what_cannot_stand_together_is_refused(results: Call) -> None:
    for words, expected in (
        (("birds.json",), "at least 2 workloads"),
        (("birds.json", "birds.json"), "each workload once"),
        (("birds.json", "none.json"), "check the path"),
        (("birds.json", "fish.json", "--arms", "a,,b"), "leave no part of it empty"),
        (("birds.json", "fish.json", "--arms", "c"), "unknown arm 'c'"),
        (("birds.json", "fish.json", "--out", "x.pdf"), "an HTML file"),
    ):
        said = results("workloads", *words)
        assert said.code == 2 and expected in said.sentence
