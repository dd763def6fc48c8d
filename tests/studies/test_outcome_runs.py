"""Outcomes of real runs on the packaged digits: they say what they said when they were trained, and what cannot be
compared is refused."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from advised import changed, copied, recipe, trained
from reinvest.core.errors import DataError, InvalidValue, UnknownName
from reinvest.core.names import resolve
from reinvest.core.recipe import Recipe
from reinvest.loop.session import build_task
from reinvest.loop.train import train
from reinvest.store import Run, Store
from reinvest.store.run import WEIGHTS
from reinvest.studies.outcome_runs import LeftOut, ask, check_runs, runs_of_recipe
from reinvest.studies.outcomes import outcomes

SMALL = recipe(train_examples=200)
USERS = '''
import math
import torch
from torch import nn


class Odd(nn.Module):
    """Another answer at every second call."""

    def __init__(self, inputs, classes):
        super().__init__()
        self.line, self.calls = nn.Linear(inputs, classes), 0

    def forward(self, x):
        if self.training:
            return self.line(x.flatten(1))
        global calls
        calls += 1
        return self.line(x.flatten(1)) * (1 if calls % 2 else -1)


calls = 0


def build(*, input_shape, classes):
    return Odd(math.prod(input_shape), classes)


class Quiet:
    """A loader that says nothing of its data."""

    indexed = True

    def __init__(self, whole):
        self.whole, self.examples = whole, whole.examples

    def __len__(self):
        return len(self.whole)

    def __iter__(self):
        return iter(self.whole)


class Own:
    """A task of a user's own, with what a task must have and no more."""

    def __init__(self):
        from reinvest.testbed.tasks.digits import digits

        self.inner = digits(train_examples=200)
        self.name, self.metric, self.higher_is_better, self.classes = "own", "accuracy", True, 10
        self.input_shape, self.fingerprint, self.test_examples = (1, 8, 8), "mine", 359

    def loader(self, split, batch_size, *, seed=0, epoch=0, start=0):
        return Quiet(self.inner.loader(split, batch_size, seed=seed, epoch=epoch, start=start))

    def criterion(self, output, target):
        return self.inner.criterion(output, target)

    def score(self, output, target):
        return self.inner.score(output, target)


def task():
    return Own()
'''


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Three seeds of a recipe; nobody changes them."""
    with Store(tmp_path_factory.mktemp("shelf") / "runs") as store:
        for seed in (2, 0, 1):
            trained(store, SMALL, seed)
        yield store


@pytest.fixture
def runs(shelf: Store) -> list[Run]:
    return sorted(shelf.runs(), key=lambda run: run.seed)


@pytest.fixture
def own(shelf: Store, tmp_path: Path) -> Iterator[Store]:
    """A copy of the shelf that a test may change."""
    store = copied(shelf, tmp_path / "own")
    store.rebuild()
    with store:
        yield store


@pytest.mark.parametrize("split", ["test", "validation"])
def test_three_seeds_say_what_they_said_when_they_were_trained(runs: list[Run], split: str) -> None:
    found = outcomes(runs, split=split)
    for one, run in zip(found.runs, runs, strict=True):
        assert one.run == run.id and one.seed == run.seed
        assert one.accuracy == pytest.approx(run.quality("accuracy", split), abs=1e-9)
        assert one.logged == run.quality("accuracy", split)
    task = build_task(SMALL)
    assert found.votes is not None
    assert torch.equal(found.votes.ids, task.splits[split])
    assert found.examples == len(task.splits[split]) and found.classes == 10 and found.model == "mlp"
    assert 0 < found.whole.churn < 1 and found.whole.self_consistency < 1
    assert [group.name for group in found.by_class] == [str(k) for k in range(10)]
    assert found.notes == ("3 runs: 5 or more are advised, since of fewer the spread is hardly known",)


def test_the_majority_is_counted_over_the_same_predictions(runs: list[Run]) -> None:
    found = outcomes(runs)
    assert found.votes is not None
    table, labels = found.votes.predictions, found.votes.labels
    credit = 0.0
    for votes, label in zip(table.T.tolist(), labels.tolist(), strict=True):
        most = max(votes.count(v) for v in votes)
        winners = {v for v in votes if votes.count(v) == most}
        credit += (label in winners) / len(winners)
    assert found.whole.majority == pytest.approx(credit / len(labels))


def test_asked_twice_the_bits_agree_and_nothing_else_is_touched(runs: list[Run]) -> None:
    states = torch.get_rng_state(), random.getstate()
    seen: list[tuple[float, int, str]] = []
    found = outcomes(runs, repeat=True, progress=lambda *told: seen.append(told))
    assert found.repeat is not None
    assert (found.repeat.runs, found.repeat.same_bits, found.repeat.changed) == (3, 3, 0)
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]
    assert [share for share, _, _ in seen] == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert {total for _, total, _ in seen} == {3} and seen[0][2] == f"run {runs[0].id}, seed 0"
    assert outcomes(runs, batch_size=50).churn == found.churn


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A user's model whose answers are another at every second call."""
    (tmp_path / "users_odd.py").write_text(USERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    import users_odd

    yield users_odd
    del sys.modules["users_odd"]


def test_a_model_that_answers_differently_when_asked_again_is_told_of(users: Any, tmp_path: Path) -> None:
    odd = SMALL.with_(model="users_odd:build")
    with Store(tmp_path / "runs") as store:
        two = [trained(store, odd, seed) for seed in (0, 1)]
        users.calls = 0
        found = outcomes(two, repeat=True)
    assert found.repeat is not None
    assert found.repeat.same_bits == 0 and found.repeat.changed > found.examples
    assert "0 of 2 runs give the same logits" in found.statements[-1]


def test_a_users_own_task_that_says_nothing_of_its_data_has_votes_too(users: Any, tmp_path: Path) -> None:
    own = SMALL.with_(task="users_odd:task")
    with Store(tmp_path / "runs") as store:
        two = [trained(store, own, seed) for seed in (0, 1)]
        found = outcomes(two[:1], store=store, same_recipe=True, groups={k: k % 2 for k in range(1797)})
    assert [one.accuracy for one in found.runs] == pytest.approx([run.quality("accuracy") for run in two])
    assert found.class_names is None and found.task == "users_odd:task" and len(found.by_group) == 2


def test_surgery_averages_and_low_precision_are_those_of_the_recipe(tmp_path: Path) -> None:
    operated = Recipe(
        task={"name": "digits", "train_examples": 200},
        model={"name": "resnet8", "width": 4},
        duration="8st",
        batch_size=50,
        methods=[{"name": "SqueezeExcite", "min_channels": 4}, {"name": "EMA", "half_life": "3st"}],
    )
    with Store(tmp_path / "runs") as store:
        two = [trained(store, operated, seed) for seed in (0, 1)]
        found = outcomes(two)
        assert [one.accuracy for one in found.runs] == pytest.approx([run.quality("accuracy") for run in two])
        low = [trained(store, SMALL.with_(precision="bf16"), seed) for seed in (0, 1)]
        votes, _ = ask(low, "test")
    weights = low[0].weights()
    task = build_task(SMALL)
    ((_, x, _),) = task.loader("test", 512)
    model = resolve("model", "mlp")(input_shape=task.input_shape, classes=10, hidden=[16])
    model.load_state_dict(weights)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        said = model(x).float().argmax(1)
    assert torch.equal(votes.predictions[0], said)


def test_runs_of_a_recipe_are_found_and_those_without_a_vote_are_named(own: Store) -> None:
    other = trained(own, SMALL.with_(duration="1ep"), 5)
    lost = trained(own, SMALL, 7)
    changed(own, lost.id, lambda values: values.update(status="diverged"))
    with own.record("mine", task="digits", config={"lr": 1}):
        pass
    first = own.runs(where="seed=0")[0]
    found, left = runs_of_recipe(first, own)
    assert [run.seed for run in found] == [0, 1, 2] and other.id not in {run.id for run in found}
    assert left == [LeftOut(lost.id, 7, "diverged")]
    whole = outcomes([first], store=own, same_recipe=True)
    assert [one.seed for one in whole.runs] == [0, 1, 2] and whole.left_out == tuple(left)
    # A default that is written out makes no other recipe.
    spelled = trained(own, SMALL.with_(batch_size=64, precision="fp32", methods=[]), 9)
    assert [run.id for run in runs_of_recipe(first, own)[0]][-1] == spelled.id


def test_other_recipes_are_refused_unless_they_are_asked_for(own: Store, runs: list[Run]) -> None:
    other = trained(own, SMALL.with_(duration="1ep", model={"name": "mlp", "hidden": [8]}), 5)
    with pytest.raises(
        InvalidValue, match=f"got run '{other.id}' with another duration and model than run '{runs[0].id}'"
    ):
        outcomes([runs[0], other])
    mixed = outcomes([*runs, other], any_recipe=True)
    assert mixed.recipe == {} and len(mixed.runs) == 4


def test_other_data_are_refused_even_then(own: Store, runs: list[Run]) -> None:
    other = trained(own, recipe(train_examples=100), 5)
    with pytest.raises(InvalidValue, match="another task"):
        outcomes([runs[0], other])
    with pytest.raises(DataError, match=f"got run '{other.id}' on other data or splits than run '{runs[0].id}'"):
        outcomes([runs[0], other], any_recipe=True)


def test_data_that_have_changed_since_are_refused(own: Store) -> None:
    for run in own.runs():
        changed(own, run.id, lambda values: values["training"]["data"].update(fingerprint="before"))
    with pytest.raises(DataError, match="got other data or splits under the name 'digits'"):
        outcomes(own.runs())


def test_other_code_is_refused_and_changed_code_is_told_of(own: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    old = own.runs()
    monkeypatch.setattr(resolve("model", "mlp"), "revision", 2, raising=False)
    later = trained(own, SMALL, 8)
    assert any("has changed since" in note for note in outcomes(old).notes)
    with pytest.raises(InvalidValue, match=f"got run '{old[0].id}' by other code than run '{later.id}'"):
        outcomes([*old, later])
    assert len(outcomes([*old, later], any_recipe=True).runs) == 4
    # Runs that are looked up cannot be left out by hand.
    found = outcomes(old[:1], store=own, same_recipe=True)
    assert [run.run for run in found.runs] == [run.id for run in sorted(old, key=lambda r: r.seed)]
    assert found.left_out == (LeftOut(later.id, 8, "trained by other code"),)
    assert len(outcomes(old[:1], store=own, same_recipe=True, any_recipe=True).runs) == 4


def test_one_run_the_same_run_and_the_same_seed(own: Store, runs: list[Run]) -> None:
    with pytest.raises(InvalidValue, match=r"2 runs or more \(5 are advised\), got 1"):
        outcomes(runs[:1])
    with pytest.raises(InvalidValue, match=f"got run '{runs[0].id}' twice"):
        outcomes([runs[0], runs[1], runs[0]])
    with pytest.raises(InvalidValue, match="store=None"):
        outcomes(runs[:1], same_recipe=True)
    shorter = trained(own, SMALL.with_(duration="1ep"), 0)
    notes = outcomes([runs[0], shorter], any_recipe=True).notes
    assert any("have the same seed (0)" in note for note in notes)


def test_runs_without_an_end_weights_or_recipe_are_refused(own: Store) -> None:
    first, second, third = own.runs()
    (second.path / WEIGHTS).unlink()
    with pytest.raises(InvalidValue, match=f"got run '{second.id}', which kept none"):
        outcomes([first, second])
    changed(own, third.id, lambda values: values.update(status="failed"))
    with pytest.raises(InvalidValue, match=f"got run '{third.id}', which is failed"):
        outcomes([first, own.get(third.id)])
    with own.record("mine", task="digits", config={"lr": 1}) as mine:
        pass
    with pytest.raises(InvalidValue, match=r"of an own loop; .*outcomes_of"):
        outcomes([first, mine.run])


def test_other_splits_tasks_and_logits_are_refused(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnknownName, match="Known: test, validation"):
        outcomes(runs, split="train")
    with pytest.raises(InvalidValue, match="a device of this machine, got 'gpu'"):
        outcomes(runs, device="gpu")
    nothing = {name: torch.full_like(value, torch.nan) for name, value in runs[1].weights().items()}
    with monkeypatch.context() as patch:
        patch.setattr(Run, "weights", lambda self, device="cpu": nothing)
        with pytest.raises(InvalidValue, match=f"finite logits, got others from run '{runs[0].id}'"):
            outcomes(runs)
    task = build_task(SMALL)
    monkeypatch.setattr(type(task), "loader", _pixels(type(task).loader))
    with pytest.raises(InvalidValue, match=r"a class for each label, got 'digits' with labels \[359, 8, 8\]"):
        outcomes(runs)


def test_groups_and_thresholds_are_refused_before_any_run_is_asked(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reinvest.studies.outcomes.ask", lambda *a, **k: pytest.fail("a run was asked"))
    (tmp_path / "groups.csv").write_text("id,group\n1,a\n")
    with pytest.raises(InvalidValue, match=r"got none for 35[89] of 359"):
        outcomes(runs, groups=tmp_path / "groups.csv")
    with pytest.raises(InvalidValue, match="one an example of the split"):
        outcomes(runs, groups=torch.zeros(5, dtype=torch.int64))
    with pytest.raises(InvalidValue, match="threshold"):
        outcomes(runs, below=2.0)


def _pixels(load: Any) -> Any:
    """A label a pixel, as in segmentation."""

    def pixels(self: Any, split: str, batch_size: int, **more: Any) -> Any:
        whole = load(self, split, batch_size, **more)
        if split == "train":
            return whole

        class Dense:
            indexed, examples, view = True, whole.examples, whole.view

            def __len__(self) -> int:
                return len(whole)

            def __iter__(self) -> Any:
                return ((ids, x, y[:, None, None].expand(-1, 8, 8)) for ids, x, y in whole)

        return Dense()

    return pixels


def test_a_store_that_was_moved_still_votes(shelf: Store, tmp_path: Path) -> None:
    shutil.copytree(shelf.path, tmp_path / "moved")
    with Store(tmp_path / "moved") as store:
        assert outcomes(store.runs(), store=store).whole == outcomes(shelf.runs()).whole


def test_branches_of_several_trunks_are_runs_of_one_recipe(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    short = Recipe(task="digits", model="mlp", batch_size=256, duration="10st", schedule={"name": "cooldown"})
    longer = short.with_(duration="20st", schedule={"name": "cooldown", "forks": [0.4]})
    branches = [train(short, seed, store, trunk=train(longer, seed, store)) for seed in (1, 2)]
    whole = train(short, 3, store)
    assert not any("code" in note for note in check_runs([*branches, whole], any_recipe=False))
    assert {run.id for run in runs_of_recipe(whole, store)[0]} >= {run.id for run in branches}
