"""Evidence: what is read from stored studies, what is left out, and which study speaks for what is asked."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from advised import arm, kept, study
from reinvest.studies.evidence import (
    CLOSENESS,
    PACKAGED,
    Evidence,
    EvidenceWarning,
    Saving,
    evidence_of,
    interval_text,
    load_evidence,
    read_studies,
    saving_of,
)

ASKED: dict[str, Any] = {"setting": "no new data", "task": "digits", "same_model": True}


def row(policy: str = "records", speedup: float | None = 1.5, low: float | None = 1.2, **more: Any) -> Evidence:
    given = {"high": 2.0, "verdict": "better", **more}
    return Evidence(
        setting=given.pop("setting", "no new data"),
        task=given.pop("task", "digits"),
        model="mlp",
        same_model=given.pop("same_model", True),
        policy=policy,
        length=3,
        speedup=speedup,
        low=low,
        sequences=5,
        source=given.pop("source", "a.json"),
        **given,
    )


def test_a_study_becomes_one_row_an_arm_without_the_baseline() -> None:
    result = study({"rec": arm("records", 1.5, 1.2, 1.9), "warm": arm("warm start", 2.0, None, None, "inconclusive")})
    first, second = evidence_of("a.json", result)
    assert first == row(high=1.9, title="planted")
    assert (second.policy, second.low, second.high, second.verdict) == ("warm start", None, None, "inconclusive")
    assert first.helps and not first.fails and not second.helps and not second.fails


@pytest.mark.parametrize(
    ("low", "high", "verdict", "helps", "fails"),
    [
        (1.01, 1.5, "better", True, False),
        (1.0, 1.5, "inconclusive", False, False),
        (0.8, 0.99, "worse", False, True),
        (1.001, 1.03, "equivalent", False, True),
        (None, 0.9, "mixed", False, True),
        (None, None, "inconclusive", False, False),
    ],
)
def test_helping_and_failing_are_shown_by_the_interval(
    low: float | None, high: float | None, verdict: str, helps: bool, fails: bool
) -> None:
    one = row(low=low, high=high, verdict=verdict)
    assert (one.helps, one.fails) == (helps, fails)


def test_a_fallback_that_took_the_place_of_a_policy_is_what_the_evidence_is_about() -> None:
    options = {"rate": 0.5, "length": 0.5, "fallback": {"reuse": "records", "weight": 0.5}}
    everywhere = arm("warm start", 1.5, 1.1, 2.0, options=options, policies=["scratch", "records", "records"])
    partly = arm("warm start", 1.5, 1.1, 2.0, options=options, policies=["scratch", "records", "warm start"])
    nowhere = arm("warm start", 1.5, 1.1, 2.0, options=options, policies=["scratch", "warm start"])
    found = evidence_of("a.json", study({"a": everywhere, "b": partly, "c": nowhere}))
    assert [(e.policy, dict(e.options)) for e in found] == [
        ("records", {"weight": 0.5, "length": 0.5}),
        ("records / warm start", {"rate": 0.5, "length": 0.5}),
        ("warm start", {"rate": 0.5, "length": 0.5}),
    ]


def test_studies_of_a_store_are_read_once_each(tmp_path: Path) -> None:
    result = study({"rec": arm("records", 1.5, 1.2, 1.9)})
    kept(tmp_path / "studies", "a.json", result)
    kept(tmp_path / "studies", "copy.json", result)
    kept(tmp_path / "studies", "b.json", {**result, "title": "another"})
    found = load_evidence(SimpleNamespace(path=tmp_path))
    assert [e.source for e in found if e.title in ("planted", "another")] == ["a.json", "b.json"]
    assert load_evidence(folders=[tmp_path / "nowhere"]) == []


def test_a_study_that_was_run_again_counts_once_as_it_was_run_last(tmp_path: Path) -> None:
    first = study({"rec": arm("records", 1.5, 1.2, 1.9)})
    later = study({"rec": arm("records", 1.1, 1.0, 1.2)}, created="2026-01-02T00:00:00+00:00", version="0.1")
    for order in ((first, later), (later, first)):
        kept(tmp_path / "a", "study.json", order[0])
        kept(tmp_path / "b", "packed.json", order[1])
        (row,) = load_evidence(folders=[tmp_path / "a", tmp_path / "b"])
        assert (row.speedup, row.source) == (1.1, "study.json" if order[0] is later else "packed.json")
    # Another plan of that name is another study.
    kept(tmp_path / "b", "more.json", {**later, "plan": {"positions": [{}, {}]}})
    assert len(load_evidence(folders=[tmp_path / "a", tmp_path / "b"])) == 2


def test_damaged_files_are_left_out_with_one_warning_that_names_them(tmp_path: Path) -> None:
    good = study({"rec": arm("records", 1.5, 1.2, 1.9)})
    kept(tmp_path, "good.json", good)
    kept(tmp_path, "half.json", '{"kind": "sequence", "arms"')
    kept(tmp_path, "later.json", {**good, "schema": 99})
    kept(tmp_path, "no-setting.json", {k: v for k, v in good.items() if k != "setting"})
    kept(
        tmp_path,
        "odd.json",
        {**good, "title": "odd", "arms": {**good["arms"], "x": {**arm("records"), "speedup": "fast"}}},
    )
    with pytest.warns(EvidenceWarning) as caught:
        found = read_studies([tmp_path])
    assert [name for name, _ in found] == ["good.json"]
    assert len(caught) == 1
    text = str(caught[0].message)
    for name in ("half.json", "later.json", "no-setting.json", "odd.json"):
        assert name in text
    assert "got 4 that cannot be read" in text and "good.json" not in text


def test_other_kinds_of_study_are_passed_over_in_silence(tmp_path: Path) -> None:
    kept(tmp_path, "other.json", {"kind": "comparison", "schema": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_studies([tmp_path]) == []


def test_the_nearest_study_speaks() -> None:
    far = row(speedup=4.0, low=3.0, setting="new classes", source="far.json")
    setting = row(speedup=3.0, low=2.5, task="cifar10", source="setting.json")
    task = row(speedup=2.0, low=1.5, same_model=False, source="task.json")
    same = row(speedup=1.3, low=1.1, source="same.json")
    for rows, expected, place in (
        ([far, setting, task, same], "same.json", 0),
        ([far, setting, task], "task.json", 1),
        ([far, setting], "setting.json", 2),
        ([far], "far.json", 3),
    ):
        found = saving_of(rows, "records", **ASKED)
        assert found is not None and found.studies == [expected]
        assert found.closeness == place and CLOSENESS[place] in str(found)
    assert saving_of([far, same], "warm start", **ASKED) is None
    assert saving_of([row(speedup=None, low=None, verdict=None)], "records", **ASKED) is None


def test_studies_of_the_same_options_are_taken_together_with_the_widest_interval() -> None:
    found = saving_of(
        [row(speedup=1.0, low=0.8, high=1.3), row(speedup=4.0, low=2.0, high=6.0, source="b.json")], "records", **ASKED
    )
    assert found is not None
    assert found.speedup == pytest.approx(2.0)
    assert (found.low, found.high, found.sequences, found.studies) == (0.8, 6.0, 10, ["a.json", "b.json"])
    assert not found.helps and not found.fails
    one_open = saving_of([row(), row(low=None)], "records", **ASKED)
    assert one_open is not None and one_open.low is None


def test_of_several_options_the_highest_lower_end_wins_and_useless_ones_come_last() -> None:
    lucky = row(speedup=3.0, low=1.1, options={"weight": 0.5})
    sure = row(speedup=1.5, low=1.3, options={"length": 0.5})
    found = saving_of([lucky, sure], "records", **ASKED)
    assert found is not None and dict(found.options) == {"length": 0.5}
    assert "followers at 0.5 of the length" in str(found)
    useless = row(speedup=0.95, low=0.9, high=0.99, verdict="worse", options={"weight": 0.5})
    unknown = row(speedup=1.2, low=None, high=None, verdict="inconclusive")
    found = saving_of([useless, unknown], "records", **ASKED)
    assert found is not None and not found.fails and found.speedup == pytest.approx(1.2)


def test_a_saving_as_plain_values() -> None:
    one = row(speedup=2.0, low=1.6, high=None, options={"rate": 0.5})
    values = Saving(2.0, 1.6, None, 0, one.options, (one,)).to_dict()
    assert values["relative_time"] == 0.5
    assert values["relative_time_low"] is None and values["relative_time_high"] == 1 / 1.6
    assert values["studies"] == ["a.json"] and values["options"] == {"rate": 0.5}
    assert interval_text(1.5, None, 2.0) == "1.5 (open to 2)"


def test_every_study_that_comes_with_the_package_can_be_read() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        names = [name for name, _ in read_studies([PACKAGED])]
    assert sorted(names) == sorted(p.name for p in PACKAGED.glob("*.json"))


def test_options_that_this_version_does_not_have_are_passed_over() -> None:
    gone = row(policy="warm start", options={"method": "melt"}, speedup=9.0, low=8.0, high=10.0)
    kept = row(policy="warm start", options={"length": 0.5}, speedup=2.0, low=1.9, high=2.1)
    found = saving_of([gone, kept], "warm start", **ASKED)
    assert found is not None and found.options == {"length": 0.5}
    assert saving_of([gone], "warm start", **ASKED) is None
