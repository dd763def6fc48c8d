"""One run for several durations: it is read, or others begin, at exactly the steps meant, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import reinvest as ri
from reinvest.core.errors import CorruptFile, InvalidValue, StoreError
from reinvest.core.recipe import Recipe
from reinvest.loop import branches
from reinvest.loop.train import train
from reinvest.store import Store
from toy_loops import same_bits

EACH = 16
"""Steps of the shortest run; the trunk has four times as many."""


def cooling(recipe: Recipe, steps: int, **schedule: Any) -> Recipe:
    return recipe.with_(duration=f"{steps}st", schedule={"name": "cooldown", "share": 0.25, **schedule})


def trunk_of(recipe: Recipe, **schedule: Any) -> Recipe:
    """Four times the shortest run, kept where runs of one and two times its length begin to cool down."""
    return cooling(recipe, 4 * EACH, forks=[0.75 / 4, 0.75 / 2], **schedule)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: Any) -> Store:
    return Store(tmp_path_factory.mktemp("branches"))


@pytest.fixture(scope="module")
def base() -> Recipe:
    """With dropout's draws, momentum and batch norm, so that every part of a state matters."""
    return Recipe(task={"name": "digits", "augment": "crop-flip"}, model="convnet", batch_size=128)


@pytest.fixture(scope="module")
def trunk(base: Recipe, kept: Store) -> Any:
    return train(trunk_of(base), 5, kept)


def test_a_cyclic_run_is_read_on_test_where_its_cycles_end(recipe: Recipe, store: Store, monkeypatch: Any) -> None:
    cyclic = recipe.with_(duration="32st", schedule={"name": "cyclic", "cycles": 3, "warmup": 1 / 8})
    run = train(cyclic, 1, store)
    read = [entry for entry in run.curve if entry["split"] == "test"]
    assert [entry["step"] for entry in read] == [8, 16, 32]
    assert run.quality("accuracy") == read[-1]["accuracy"]
    assert all(entry["seconds"] > 0 for entry in read)
    monkeypatch.setattr(branches, "marked_steps", lambda *_: set())
    monkeypatch.setattr("reinvest.loop.train.marked_steps", lambda *_: set())
    unread = train(cyclic.with_(), 1, Store(store.path.parent / "unread"))
    assert len([e for e in unread.curve if e["split"] == "test"]) == 1
    assert same_bits(dict(run.weights()), dict(unread.weights()))


@pytest.mark.parametrize("times", [1, 2])
def test_a_branch_is_the_whole_run_bit_for_bit(base: Recipe, kept: Store, trunk: Any, times: int) -> None:
    short = cooling(base, times * EACH)
    branch, whole = train(short, 5, kept, trunk=trunk), train(short, 5, kept)
    assert branch.id != whole.id and same_bits(dict(branch.weights()), dict(whole.weights()))
    assert branch.quality("accuracy") == whole.quality("accuracy") and branch.steps == whole.steps == times * EACH
    assert branch.facts["branch"] == {"trunk": trunk.id, "step": 12 * times}
    assert [str(getattr(p, "id", p)) for p in branch.parents] == [trunk.id] and whole.parents == []
    assert train(short, 5, kept, trunk=trunk.id[:9]).id == branch.id


def test_keeping_states_changes_nothing(base: Recipe, kept: Store, trunk: Any) -> None:
    assert same_bits(dict(trunk.weights()), dict(train(cooling(base, 4 * EACH), 5, kept).weights()))
    assert [p for p in kept.verify() if p.run == trunk.id] == []


def test_a_branch_is_charged_as_the_whole_run_and_records_from_the_fork_on(
    base: Recipe, kept: Store, trunk: Any
) -> None:
    branch = train(cooling(base, 2 * EACH), 5, kept, trunk=trunk)
    begun = trunk.state_at(24)["chain"]["clock"]
    assert branch.seconds > 0 and begun
    loss = branch.records().history("loss")
    assert loss.shape[1] == 4 and bool(loss[:, 0].isnan().all()) and bool(loss[:, 3].isfinite().any())


def test_a_branch_that_is_interrupted_goes_on(base: Recipe, kept: Store, trunk: Any, monkeypatch: Any) -> None:
    short = cooling(base, 2 * EACH, warmup=0.0, final=0.1)
    longer = train(trunk_of(base, final=0.1), 5, kept)
    from reinvest.loop.session import Session

    made, step = [0], Session.step

    def stop(self: Session, batch: Any) -> Any:
        made[0] += 1
        if made[0] == 5:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(Session, "step", stop)
    with pytest.raises(KeyboardInterrupt):
        train(short, 5, kept, trunk=longer, checkpoint_seconds=0.0)
    branch = train(short, 5, kept, trunk=longer)
    monkeypatch.undo()
    assert same_bits(dict(branch.weights()), dict(train(short, 5, kept).weights()))


def test_a_warm_up_is_the_trunk_s_in_steps(base: Recipe, kept: Store) -> None:
    longer = train(trunk_of(base, warmup=1 / 8), 6, kept)
    branch = train(cooling(base, 2 * EACH, warmup=1 / 4), 6, kept, trunk=longer)
    assert same_bits(dict(branch.weights()), dict(train(cooling(base, 2 * EACH, warmup=1 / 4), 6, kept).weights()))
    with pytest.raises(InvalidValue, match=r"warms up as its trunk did, got 0 steps for 8; write warmup: 0\.25"):
        train(cooling(base, 2 * EACH), 6, kept, trunk=longer)


def test_what_cannot_branch_is_refused(base: Recipe, kept: Store, trunk: Any) -> None:
    before = len(kept.runs())
    short = cooling(base, EACH)
    with pytest.raises(InvalidValue, match="seed of its trunk, got 6"):
        train(short, 6, kept, trunk=trunk)
    with pytest.raises(InvalidValue, match="another batch_size"):
        train(short.with_(batch_size=64), 5, kept, trunk=trunk)
    with pytest.raises(InvalidValue, match="shorter than its trunk, got 64 steps for a trunk of 64"):
        train(cooling(base, 4 * EACH), 5, kept, trunk=trunk)
    with pytest.raises(StoreError, match=r"got step 15 of run .*, which kept 12, 24; train it with"):
        train(cooling(base, 20), 5, kept, trunk=trunk)
    with pytest.raises(InvalidValue, match="cools down, got schedule 'cosine'"):
        train(base.with_(duration="16st"), 5, kept, trunk=trunk)
    assert len(kept.runs()) == before


def test_methods_that_look_ahead_are_refused(base: Recipe, kept: Store) -> None:
    ahead = base.with_({"name": "ProgressiveResizing"}, {"name": "EMA"}, {"name": "LabelSmoothing"})
    before = len(kept.runs())
    for recipe in (trunk_of(ahead), ahead.with_(duration="32st", schedule={"name": "cyclic"})):
        with pytest.raises(
            InvalidValue, match="no methods that go by how long the run is, got ProgressiveResizing and EMA"
        ):
            train(recipe, 0, kept)
    assert len(kept.runs()) == before


def test_forks_lie_between_warm_up_and_cool_down(base: Recipe, kept: Store) -> None:
    for fork in (0.05, 0.8):
        with pytest.raises(InvalidValue, match=f"forks lie between .* got {fork}"):
            train(cooling(base, 64, warmup=0.125, forks=[fork]), 0, kept)


def test_a_state_that_has_changed_is_told(base: Recipe, kept: Store) -> None:
    other = train(trunk_of(base, final=0.25), 8, kept)
    path = other.path / "fork_12.pt"
    path.write_bytes(path.read_bytes()[:-7])
    assert any(p.run == other.id for p in kept.verify())
    with pytest.raises(CorruptFile, match="fork_12"):
        train(cooling(base, EACH, final=0.25), 8, kept, trunk=other)
    assert torch.is_tensor(next(iter(other.weights().values()))) and ri.Store(kept.path)


def test_a_trunk_that_diverged_serves_as_far_as_it_came(base: Recipe, kept: Store, monkeypatch: Any) -> None:
    from reinvest.loop.session import Session

    step = Session.step

    def poisoned(self: Session, batch: Any) -> Any:
        loss = step(self, batch)
        return loss * float("nan") if self.total_steps == 4 * EACH and self.methods.context.step > 12 else loss

    monkeypatch.setattr(Session, "step", poisoned)
    ended = train(trunk_of(base), 9, kept)
    assert ended.status == "diverged" and ended.steps == 16
    short = cooling(base, EACH)
    branch = train(short, 9, kept, trunk=ended)
    assert same_bits(dict(branch.weights()), dict(train(short, 9, kept).weights()))
    with pytest.raises(InvalidValue, match=r"before its trunk diverged, got step 24 of a trunk that diverged at 16"):
        train(cooling(base, 2 * EACH), 9, kept, trunk=ended)


def test_kept_states_are_without_the_trunk_s_records(trunk: Any) -> None:
    assert "recorder" not in trunk.state_at(12)["chain"]


def test_a_state_from_another_kind_of_device_has_no_draws_of_this_one(recipe: Recipe, monkeypatch: Any) -> None:
    from reinvest.loop.session import Session

    session, given = Session(recipe.with_(duration="4st"), 0), []
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: given.append(state))
    with session.attached():
        state = session.state_dict()
        session.device = torch.device("cuda")
        session.load_state_dict(state)
        session.load_state_dict(state | {"cuda_generator": torch.zeros(1)})
    assert len(given) == 1 and torch.is_tensor(given[0])
