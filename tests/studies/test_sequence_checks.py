"""What is refused before anything is trained: policies that cannot apply, other test sets, test data seen before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_runs import PLAN, FakeRun, FakeStore, plan_of

from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.studies.sequence_checks import check_plan, open_pool, policies_of
from reinvest.studies.sequence_plan import SequencePlan

ALL = {**PLAN["base"], "task": "digits"}
WIDER: list[dict[str, Any]] = [{}, {}, {"model": {"hidden": [16]}}]


def arms(**policies: Any) -> dict[str, Any]:
    return {"scratch": "scratch", **policies}


def test_a_policy_that_cannot_apply_is_refused_with_the_reason() -> None:
    with pytest.raises(InvalidValue, match=r"'warm start' of arm 'warm' at run 3.*layers\.0.*give the arm a fallback"):
        policies_of(plan_of(positions=WIDER, arms=arms(warm="warm start")))


def test_a_fallback_takes_its_place_where_it_cannot_apply() -> None:
    warm = {"reuse": "warm start", "length": 0.5, "fallback": {"reuse": "records", "weight": 0.5}}
    found = policies_of(plan_of(positions=WIDER, arms=arms(warm=warm, records="records")))
    assert [p["reuse"] for p in found["warm"]] == ["scratch", "warm start", "records"]
    assert found["warm"][2] == {"reuse": "records", "weight": 0.5, "length": 0.5}
    assert [p["reuse"] for p in found["records"]] == ["scratch", "records", "records"]
    assert [p["reuse"] for p in found["scratch"]] == ["scratch"] * 3


def test_a_fallback_that_cannot_apply_either_is_refused_with_both_reasons() -> None:
    plan = plan_of(positions=WIDER, arms=arms(warm={"reuse": "warm start", "fallback": "shrink-perturb"}))
    with pytest.raises(InvalidValue, match="and its fallback 'shrink-perturb'"):
        policies_of(plan)


def test_a_head_that_grows_fits_warm_starts_and_records() -> None:
    plan = plan_of(base=ALL, positions=None, classes=[4, 8, 10], arms=arms(warm="warm start", records="records"))
    assert [p["reuse"] for p in policies_of(plan)["warm"]] == ["scratch", "warm start", "warm start"]
    assert check_plan(plan) == ("accuracy", True)
    refused = plan_of(
        base=ALL, positions=None, classes=[4, 8], arms=arms(warm={"reuse": "warm start", "heads": "refuse"})
    )
    with pytest.raises(InvalidValue, match="heads='refuse'"):
        policies_of(refused)


def test_records_without_a_common_example_are_refused_for_any_run_of_the_pool() -> None:
    grown = {"positions": None, "grow": {"train_examples": [100, 200, 400]}}
    with pytest.raises(InvalidValue, match=r"'records' of arm 'records' at run 2.*trained on none of these"):
        policies_of(plan_of(**grown, keep=0))
    # With half kept, run 3 shares examples with run 2 but none with run 1.
    assert policies_of(plan_of(**grown, keep=0.5))["records"][2]["reuse"] == "records"
    with pytest.raises(InvalidValue, match="'records all' of arm 'every' at run 3"):
        policies_of(plan_of(**grown, keep=0.5, arms=arms(every="records all")))
    assert policies_of(plan_of(**grown, keep=0, arms=arms(warm="warm start")))["warm"][2]["reuse"] == "warm start"


def test_runs_that_blend_every_example_leave_no_rows_to_learn_from() -> None:
    blended = {**PLAN["base"], "methods": [{"name": "Mixup"}]}
    for policy in ("records", "high-loss"):
        with pytest.raises(InvalidValue, match="got Mixup, which blends every example"):
            policies_of(plan_of(base=blended, arms=arms(taught=policy)))
    found = policies_of(plan_of(base=blended, arms=arms(warm={"reuse": "records", "fallback": "warm start"})))
    assert [p["reuse"] for p in found["warm"]] == ["scratch", "warm start", "warm start"]
    neutral = {**PLAN["base"], "methods": [{"name": "CutMix", "alpha": 0.0}]}
    assert policies_of(plan_of(base=neutral))["records"][1]["reuse"] == "records"


def test_the_data_of_a_plan_are_checked() -> None:
    assert check_plan(plan_of()) == ("accuracy", True)
    assert check_plan(plan_of(metric="loss")) == ("loss", False)
    with pytest.raises(UnknownName, match=r"'f1'.*accuracy, loss"):
        check_plan(plan_of(metric="f1"))


def test_a_sequence_sees_no_test_data_and_keeps_its_test_set(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    import torch

    from reinvest.studies import sequence_checks

    plan = plan_of(positions=None, grow={"train_examples": [100, 200]})
    real = sequence_checks._view

    def moved(change: Any, mark: str) -> Any:
        def view(text: str) -> Any:
            found = real(text)
            roles = found.roles().clone()
            return replace(found, roles=lambda: change(roles)) if mark in text else found

        return view

    def other_test(roles: torch.Tensor) -> torch.Tensor:
        roles[(roles == 3).nonzero()[0]] = 0
        return roles

    monkeypatch.setattr(sequence_checks, "_view", moved(other_test, "200"))
    with pytest.raises(InvalidValue, match="the test set stays along a sequence, got another one for run 2"):
        check_plan(plan)

    def leak(roles: torch.Tensor) -> torch.Tensor:
        roles[(roles == 3).nonzero()[:5]] = 1
        return roles

    classes = plan_of(base=ALL, positions=None, classes=[4, 10])
    monkeypatch.setattr(sequence_checks, "_view", moved(leak, '"first_classes": 4'))
    with pytest.raises(InvalidValue, match="got 5 test examples of run 2 among the training"):
        check_plan(classes)


GROWN = '''
"""Rows that arrive: test and validation rows come first, so that what is appended is training data."""

import torch

from reinvest import Task


def rows(train_examples=200):
    count = 200 + train_examples
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 6, generator=generator)[:count]
    splits = {"test": range(100), "validation": range(100, 200), "train": range(200, count)}
    return Task.from_tensors("grown", x, (x[:, 0] > 0).long(), splits=splits)
'''


@pytest.mark.parametrize("amounts", [[100, 200, 400], [400, 200, 100]])
def test_data_that_really_grow_fit_and_stay_along_a_sequence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, amounts: list[int]
) -> None:
    (tmp_path / "growing_rows.py").write_text(GROWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    plan = plan_of(
        base={**PLAN["base"], "task": "growing_rows:rows"},
        positions=None,
        grow={"train_examples": amounts},
        arms=arms(records="records", warm="warm start"),
    )
    assert check_plan(plan) == ("accuracy", True)
    assert [p["reuse"] for p in policies_of(plan)["records"]] == ["scratch", "records", "records"]


def test_a_pool_holds_finished_runs_that_fit(tmp_path: Path) -> None:
    store, plan = FakeStore(tmp_path), plan_of()
    good = store.put(FakeRun(plan.recipe(0, "40st"), 1, 0.9))
    bad = store.put(FakeRun(plan.recipe(0, "40st"), 2, 0.9, status="diverged"))
    wide = store.put(FakeRun(plan_of(positions=WIDER).recipe(2, "40st"), 3, 0.9))

    def pooled(*runs: FakeRun, **changes: Any) -> SequencePlan:
        return plan_of(teachers={"pool": [r.id for r in runs]}, **changes)

    found = policies_of(pooled(good), open_pool(pooled(good), store))
    assert [p["reuse"] for p in found["records"]] == ["records"] * 3
    with pytest.raises(InvalidValue, match=r"finished runs, got run .*diverged"):
        open_pool(pooled(bad), store)
    warm = pooled(wide, arms=arms(warm="warm start"))
    with pytest.raises(InvalidValue, match="at run 1, where it cannot"):
        policies_of(warm, open_pool(warm, store))
    good.seconds = None
    with pytest.raises(Exception, match="without seconds"):
        open_pool(pooled(good), store)


@pytest.mark.parametrize(
    ("moves", "shape", "refused"), [(True, (1, 4, 4), True), (False, (1, 4, 4), False), (True, (1,), False)]
)
def test_rows_of_pixels_that_move_teach_nobody(
    monkeypatch: pytest.MonkeyPatch, moves: bool, shape: tuple[int, ...], refused: bool
) -> None:
    import torch

    from reinvest.core.view import TaskView
    from reinvest.studies import sequence_checks

    class Shown:
        def loader(self, split: str, batch_size: int) -> Any:
            return [(torch.arange(1), torch.zeros(1, 3, 4, 4), torch.zeros(shape, dtype=torch.int64))]

    sequence_checks._moves_rows.cache_clear()
    monkeypatch.setattr(sequence_checks, "build_task", lambda recipe: Shown())
    monkeypatch.setattr(sequence_checks, "_view", lambda text: TaskView(moves=moves))
    recipe = plan_of().recipe(0, "3ep")
    if refused:
        with pytest.raises(InvalidValue, match=r"where training views leave them in their place, got augment="):
            sequence_checks._refuse_moved(recipe)
        assert "leave it out" in sequence_checks.unfit("records", {}, recipe, [recipe])
    else:
        sequence_checks._refuse_moved(recipe)
    sequence_checks._moves_rows.cache_clear()
