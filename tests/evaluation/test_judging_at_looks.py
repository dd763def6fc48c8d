"""A study with declared looks is trained and judged from look to look, and says which looks were never declared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from curve_arms import curves, fixed_seeds

import reinvest as ri
from reinvest.core.errors import InvalidValue
from reinvest.evaluation.compare import Listener, run_study
from reinvest.evaluation.execute import Stopped
from reinvest.evaluation.judged import judgements, remember
from reinvest.evaluation.looks import Judgement, crossing, levels, percent, undeclared


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    fixed_seeds(monkeypatch)
    return ri.Store(tmp_path / "runs")


def test_a_study_ends_at_the_first_look_at_which_every_arm_is_decided(store: Any) -> None:
    seen: list[tuple[int, dict[str, str]]] = []
    listener = Listener(
        looked=lambda look, verdicts: seen.append((look.seeds, {n: v.verdict for n, v in verdicts.items()}))
    )
    found = run_study(curves("fast", "slow", looks=[3, 4, 5], spending="pocock"), store, listener=listener)
    assert {n: v.verdict for n, v in found.items()} == {"fast": "better", "slow": "worse"}
    assert seen == [(3, {"fast": "better", "slow": "worse"})]
    assert len(store.runs()) == 3 * 4 * 3
    alpha = levels((3, 4, 5), 0.05, "pocock")[0]
    for verdict in found.values():
        assert verdict.level == pytest.approx(1.0 - alpha)
        text = " | ".join(verdict.flags)
        assert "look 1 of 3, at 3 of 5 seeds: judged at" in text and "pocock spending" in text
        assert "the study ended at 3 of 5 seeds, because every arm is decided" in text
    assert found.result["cost"]["runs"] == 36
    taken = found.result["looks"]["taken"]
    assert [look["seeds"] for look in taken] == [3, 4, 5]
    assert taken[0]["verdicts"] == {"fast": "better", "slow": "worse"}
    assert taken[0]["level"] == pytest.approx(1.0 - alpha) and taken[1]["verdicts"] is None
    json.dumps(found.result, allow_nan=False)


def test_an_undecided_arm_goes_on_to_the_end_and_runs_are_found_again(store: Any) -> None:
    study = curves("fast", "same", looks=[3, 5], spending="pocock")
    found = run_study(study, store)
    assert found["same"].verdict == "inconclusive" and found["fast"].verdict == "better"
    assert len(store.runs()) == 3 * 4 * 5
    assert any("look 2 of 2, at 5 of 5 seeds" in flag for flag in found["same"].flags)
    assert not any("the study ended" in flag for v in found.values() for flag in v.flags)
    assert found["same"].level == pytest.approx(1.0 - levels((3, 5), 0.05, "pocock")[1])
    again = run_study(study, store)
    assert {n: v.to_dict() for n, v in again.items()} == {n: v.to_dict() for n, v in found.items()}
    assert again.result["cost"]["found"] == again.result["cost"]["runs"] == 60


def test_hours_that_end_between_looks_leave_the_verdict_of_the_look_before(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reinvest.evaluation import course as module

    real, left = module.execute, [3]

    def until(jobs: Any, *words: Any, **settings: Any) -> int:
        some = [job for job in jobs if job.replicate < left[0]]
        count = real(some, *words, **settings)
        if len(some) < len(jobs):
            raise Stopped(left[0])
        return count

    monkeypatch.setattr(module, "execute", until)
    study = curves("same", looks=[3, 5], spending="pocock")
    left[0] = 4
    found = run_study(study, store, max_hours=1.0)
    text = " | ".join(found["same"].flags)
    assert "look 1 of 2, at 3 of 5 seeds" in text and "stopped after 4 of 5 replicates" in text
    assert found.result["cost"]["runs"] == 24
    left[0] = 4
    with pytest.raises(InvalidValue, match="needs 5 whole replicates, got 4"):
        run_study(curves("slow", looks=[5, 6], seeds=6), store, max_hours=1.0)


def test_without_looks_nothing_is_said_of_them(store: Any) -> None:
    found = run_study(curves("fast", seeds=3), store)
    assert found["fast"].level == 0.95
    assert not any("look" in flag for flag in found["fast"].flags) and "looks" not in found.result


def test_judging_again_with_more_seeds_is_said_to_be_a_look(store: Any) -> None:
    run_study(curves("fast", seeds=3), store)
    run_study(curves("fast", seeds=3), store)
    again = run_study(curves("fast", "slow", seeds=5), store)
    (flag,) = [flag for flag in again["fast"].flags if "which was not declared" in flag]
    assert flag.startswith("judged at 3 seeds too, which was not declared")
    assert f"up to {percent(sum(crossing((3, 5), (0.05, 0.05))))} of studies" in flag and "not in 5 %" in flag
    assert not any("which was not declared" in flag for flag in again["slow"].flags)
    late = run_study(curves("fast", looks=[3, 5]), store)
    assert any("judged at 3 and 5 seeds before these looks were declared" in flag for flag in late["fast"].flags)


def test_declared_looks_and_the_same_number_of_seeds_are_no_undeclared_looks() -> None:
    looks = ((3, 5), "pocock")
    assert undeclared(Judgement(5, *looks), [Judgement(3, *looks), Judgement(5, *looks)], 0.05) == []
    assert undeclared(Judgement(5), [Judgement(5)], 0.05) == []
    assert "up to 8.3 % of studies" in undeclared(Judgement(6), [Judgement(3)], 0.05)[0]


def test_points_made_otherwise_are_no_earlier_look_at_the_same_runs(tmp_path: Path) -> None:
    base = ri.Recipe(task="digits", model="mlp", batch_size=256)
    arms, durations = {"smooth": base.with_("LabelSmoothing")}, ["4st", "8st", "16st", "32st"]
    kinds = [ri.Study(baseline=base, arms=arms, durations=durations, seeds=3, curve=k) for k in ("separate", "cyclic")]
    store = ri.Store(tmp_path / "kinds")
    remember(kinds[0], 3, store)
    assert judgements(kinds[0], store)["smooth"] == [Judgement(3)] and judgements(kinds[1], store)["smooth"] == []


def test_a_damaged_memory_counts_as_none(store: Any) -> None:
    run_study(curves("fast", seeds=3), store)
    (file,) = (store.path / "judged").iterdir()
    file.write_text("{")
    again = run_study(curves("fast", seeds=5), store)
    assert not any("which was not declared" in flag for flag in again["fast"].flags)
    assert store.verify() == []
