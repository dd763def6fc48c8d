"""Outcomes of real runs on small label maps: they say what they logged, and pixels without a label have no say."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from reinvest.core.errors import DataError, InvalidValue, UnknownName
from reinvest.core.recipe import Recipe
from reinvest.loop.session import build_task
from reinvest.loop.train import train
from reinvest.store import Run, Store
from reinvest.studies.outcome_position_runs import ask_positions, on_positions
from reinvest.studies.outcome_runs import ask
from reinvest.studies.outcomes import outcomes

FACTORY = """
import torch
from torch import nn
from reinvest.testbed.tasks.segmentation import SegmentationTask


def fields():
    g = torch.Generator().manual_seed(0)
    y = torch.randint(3, (60, 6, 6), generator=g)
    x = y[:, None] * 0.4 + torch.rand(60, 1, 6, 6, generator=g)
    y[torch.rand(60, 6, 6, generator=g) < 0.2] = -100
    y[-12:, :3] = -100
    return SegmentationTask.from_maps("fields", x, y, classes=3, class_names=["ash", "beech", "fir"])


def build(*, input_shape, classes):
    return nn.Conv2d(input_shape[0], classes, 3, padding=1)
"""


def recipe() -> Recipe:
    return Recipe(task="fields_of:fields", model="fields_of:build", duration="3ep", batch_size=12)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Run]]:
    folder = tmp_path_factory.mktemp("fields")
    (folder / "fields_of.py").write_text(FACTORY)
    sys.path.insert(0, str(folder))
    with Store(folder / "runs") as store:
        yield [train(recipe(), seed, store, device="cpu", progress=False) for seed in range(3)]
    sys.path.remove(str(folder))


def test_runs_say_what_they_logged_and_what_their_weights_say(runs: list[Run], tmp_path: Path) -> None:
    assert on_positions(runs[0], "test")
    found = outcomes(runs, repeat=True, batch_size=5)
    assert [one.accuracy for one in found.runs] == pytest.approx([one.logged for one in found.runs])
    assert found.repeat is not None and (found.repeat.same_bits, found.repeat.changed) == (3, 0)
    task = build_task(recipe())
    ((ids, x, y),) = task.loader("test", 100)
    said = []
    for run in runs:
        model = torch.nn.Conv2d(1, 3, 3, padding=1)
        model.load_state_dict(run.weights())
        said.append(model(x).argmax(1))
    valid = y != -100
    assert found.positions == int(valid.sum()) and found.examples == len(ids)
    for i in range(3):
        for j in range(3):
            assert found.churn[i][j] == pytest.approx(float((said[i] != said[j])[valid].double().mean()))
    assert [group.name for group in found.by_class] == ["ash", "beech", "fir"]
    assert math.isclose(sum(g.positions or 0 for g in found.by_class), found.positions)
    assert len(found.csv(tmp_path / "v.csv").read_text().splitlines()) == 1 + len(ids)


def test_the_split_in_batches_is_the_split_at_once(runs: list[Run]) -> None:
    one, other = (outcomes(runs, split="validation", batch_size=size) for size in (1, 100))
    assert one.whole == other.whole and one.churn == other.churn


def test_the_same_weights_twice_differ_nowhere(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    weights = runs[0].weights()
    monkeypatch.setattr(Run, "weights", lambda self, device="cpu": weights)
    found = outcomes(runs)
    assert found.whole.churn == 0.0 and found.disputed == ()


def test_subgroups_by_id(runs: list[Run]) -> None:
    ids = build_task(recipe()).splits["test"].tolist()
    found = outcomes(runs, groups={i: "even" if i % 2 == 0 else "odd" for i in ids})
    assert {g.name for g in found.by_group} == {"even", "odd"}
    assert sum(g.positions or 0 for g in found.by_group) == found.positions
    with pytest.raises(InvalidValue, match="got none for"):
        outcomes(runs, groups={ids[0]: "x"})


def test_refusals(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownName, match="Known: test, validation"):
        ask_positions(runs, "train")
    with pytest.raises(InvalidValue, match="one label an example"):
        ask(runs, "test")
    nothing = {name: torch.full_like(value, torch.nan) for name, value in runs[1].weights().items()}
    with monkeypatch.context() as patch:
        patch.setattr(Run, "weights", lambda self, device="cpu": nothing)
        with pytest.raises(InvalidValue, match=f"finite logits, got others from run '{runs[0].id}'"):
            outcomes(runs)
    load, calls = type(build_task(recipe())).loader, []

    def moved(self, split, batch_size, **more):
        calls.append(split)
        for ids, x, y in load(self, split, batch_size, **more):
            yield ids, x, y + (0 if len(calls) < 2 else 1) * (y == 0)

    class Listed(list):
        indexed, examples = True, 60

    with monkeypatch.context() as patch:
        patch.setattr(
            "reinvest.studies.outcome_position_runs.model_for", lambda *a: torch.nn.Conv2d(1, 3, 3, padding=1)
        )
        patch.setattr(type(build_task(recipe())), "loader", lambda self, *a, **k: Listed(moved(self, *a, **k)))
        with pytest.raises(DataError, match=f"other labels for run '{runs[1].id}'"):
            ask_positions(runs, "test", batch_size=4)
