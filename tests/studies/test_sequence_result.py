"""Where the result of a study is kept: no study takes the place of another one's evidence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_runs import FakeStore, Trainer, plan_of, planted

from reinvest.studies.sequence import run_sequence
from reinvest.studies.sequence_plan import SequencePlan
from reinvest.studies.sequence_result import clean, place_of, read_sequence


def kept(folder: Path, plan: SequencePlan) -> Path:
    path = place_of(folder, plan)
    folder.mkdir(exist_ok=True)
    path.write_text(json.dumps({"plan": clean(plan.to_dict())}))
    return path


def test_another_study_with_the_same_title_gets_a_file_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "studies"
    first, second, third = plan_of(), plan_of(sequences=6), plan_of(durations=["40st", "80st"])
    assert kept(folder, first) == folder / "planted.json"
    other = kept(folder, second)
    assert other.stem.startswith("planted-") and len(other.stem) == len("planted-") + 8
    assert len({kept(folder, plan) for plan in (first, second, third)}) == len(list(folder.iterdir())) == 3
    # The same plan keeps its file, even where the one that came first is gone.
    assert place_of(folder, plan_of(sequences=6)) == other
    (folder / "planted.json").unlink()
    assert place_of(folder, second) == other


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_file_that_is_no_result_is_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "planted.json").write_text(content)
    assert place_of(tmp_path, plan_of()).stem.startswith("planted-")


def test_two_studies_without_a_title_are_both_kept(tmp_path: Path) -> None:
    store, paths = FakeStore(tmp_path), set()
    for policy in ("records", "forward", "records"):
        plan = plan_of(title=None, arms={"scratch": "scratch", policy: policy})
        done = run_sequence(plan, store, train=Trainer(planted(1.5)), workers=1, threads=1, own_clock=True)
        assert read_sequence(done.path) == done.result
        paths.add(done.path)
    assert len(paths) == len(list((tmp_path / "studies").iterdir())) == 2
