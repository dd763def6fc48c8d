"""`reinvest runs`, `runs tree`, `runs show`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from calling import Call

from reinvest.cli._output import size_text, table, time_text
from reinvest.cli.runs import _spark
from reinvest.store import Store
from reinvest.store.run import Summary


@pytest.fixture
def many(tmp_path: Path) -> Store:
    store = Store(tmp_path / "many")
    (store.path / "runs").mkdir(parents=True)
    last = json.dumps({"validation": {"accuracy": 0.9}})
    store._index.put(
        Summary(
            f"{k:016x}",
            f"{k:032x}",
            "n",
            "t",
            k,
            "finished",
            f"2026-01-01T00:{k // 60:02d}:{k % 60:02d}+00:00",
            None,
            10,
            1.5,
            2000,
            "[]",
            last,
        )
        for k in range(1000)
    )
    return store


def test_the_newest_runs_are_listed_and_the_rest_counted(call: Call, many: Store) -> None:
    lines = call("runs", "--store", "many").out.splitlines()
    assert lines[1].startswith(f"{999:016x}")
    assert len(lines) == 32
    assert lines[-1] == "... and 970 more (--all)"
    assert len(call("runs", "--store", "many", "--all").out.splitlines()) == 1001
    assert (
        call("runs", "--store", "many", "--limit", "2", "--where", "seed<100").out.splitlines()[-1]
        == "... and 98 more (--all)"
    )


def test_json_gives_all_runs_unless_limited(call: Call, many: Store) -> None:
    found = call("runs", "--store", "many", "--json").data
    assert found["total"] == len(found["runs"]) == 1000
    some = call("runs", "--store", "many", "--json", "--limit", "3").data
    assert (some["total"], len(some["runs"])) == (1000, 3)
    assert some["runs"][0] == found["runs"][0]
    assert some["runs"][0]["last"] == {"validation": {"accuracy": 0.9}}


def test_filter_sizes_and_statuses(call: Call, runs: Store) -> None:
    said = call("runs", "--where", "task=fish and status=interrupted", "--sizes")
    assert said.code == 0
    assert "fourth" in said.out
    assert "third" not in said.out
    assert f"the store {runs.path} takes" in said.out
    assert "0.75" in call("runs").out
    assert call("runs", "--json", "--sizes").data["bytes"] > 0
    assert "unknown key in a filter 'taks'" in call("runs", "--where", "taks=fish").sentence


def test_an_empty_store_says_how_to_fill_it(call: Call) -> None:
    said = call("runs", "--store", "nowhere")
    assert said.code == 0
    assert "reinvest train" in said.out
    assert call("runs", "--store", "nowhere", "--json").data["runs"] == []
    assert not Path("nowhere").exists()


def test_the_tree_shows_a_child_below_its_parent(call: Call, runs: Store) -> None:
    lines = call("runs", "tree").out.splitlines()
    parent = next(k for k, line in enumerate(lines) if " first " in line)
    assert "└─" in lines[parent + 1]
    assert " second " in lines[parent + 1]
    depths = {run["name"]: run["depth"] for run in call("runs", "tree", "--json").data["runs"]}
    assert depths == {"first": 0, "second": 1, "third": 0, "fourth": 0}


def test_show_tells_everything_about_a_run(call: Call, runs: Store) -> None:
    run = runs.runs(name="first")[0]
    said = call("runs", "show", run.id[:8])
    for expected in ("lr: 0.1", "device: test", "run.json", "accuracy", "▁", "children", "0.1 to 0.5"):
        assert expected in said.out
    data = call("runs", "show", run.id, "--json").data
    assert data["config"] == {"lr": 0.1, "deep": {"a": [1, 2]}}
    assert data["children"] == [runs.runs(name="second")[0].id]
    assert len(data["curve"]) == 6
    assert data["files"]["run.json"] > 0


def test_a_diverged_run_is_shown_with_null_for_what_is_not_finite(call: Call, runs: Store) -> None:
    run = runs.runs(name="third")[0]
    assert call("runs", "show", run.id).code == 0
    assert call("runs", "show", run.id, "--json").data["curve"][0]["accuracy"] is None


def test_an_unknown_run_is_refused_with_the_nearest(call: Call, runs: Store) -> None:
    run = runs.runs()[0].id
    wrong = run[:-1] + ("0" if run[-1] != "0" else "1")
    assert run in call("runs", "show", wrong).sentence


def test_texts() -> None:
    assert [size_text(n) for n in (0, 999, 1000, 14_200, 3e9, 5e15)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "14.2 kB",
        "3.0 GB",
        "5000.0 TB",
    ]
    assert [time_text(s) for s in (None, 0.42, 8.12, 59.6, 200, 7500)] == [
        "-",
        "0.42 s",
        "8.1 s",
        "60 s",
        "3 min 20 s",
        "2 h 5 min",
    ]
    assert table(["a", "b"], [["x", "12"], ["yyy", "3"]], right=[1]) == "a     b\nx    12\nyyy   3"
    assert _spark([0.0, 0.5, 1.0, float("nan")]) == "▁▅█!"
    assert len(_spark([float(k) for k in range(1000)])) <= 48
