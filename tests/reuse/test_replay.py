"""Replayed views: the student sees the very views that its teacher saw, and learns what the teacher said of each."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import nn

from reinvest.core.chain import Methods
from reinvest.core.errors import Conflict, InvalidValue, LoopError, StoreError
from reinvest.core.streams import stream
from reinvest.loop.session import Session
from reinvest.loop.train import train
from reinvest.methods.losses.distillation import Distill
from reinvest.reuse.clean import clean_pass
from reinvest.store import Store
from reinvest.testbed.tasks.digits import digits
from teaching import CLASSES, QUIET, STEP, Rows, columns, epoch, recorded, small, still
from toy_loops import net, same_bits

SEED, LENGTH, KEPT = 4, 5, 3
"""Of the teacher; the student has another seed."""


def recipe(duration=f"{LENGTH}ep", **task):
    """210 pictures in batches of 50: ten are dropped in every epoch."""
    return small(210, duration, **{"augment": "crop-flip", **task})


def pictures(**more):
    return digits(**{"train_examples": 210, "augment": "crop-flip", **more})


def watched(monkeypatch):
    """What every session shows its model: {(seed, epoch, id): x}, and the ids of each (seed, epoch) in order."""
    views, order, step = {}, {}, Session.step

    def look(self, batch):
        ids, now = self.methods._now.batch.ids.tolist(), (self.seed, self.methods.context.epoch)
        views.update({(*now, i): x.clone() for i, x in zip(ids, batch[0], strict=True)})
        order.setdefault(now, []).extend(ids)
        return step(self, batch)

    monkeypatch.setattr(Session, "step", look)
    return views, order


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A store with a teacher that kept the views of its last three epochs, the teacher, and what it saw."""
    with pytest.MonkeyPatch.context() as patch, Store(tmp_path_factory.mktemp("told") / "runs") as store:
        views, _ = watched(patch)
        yield store, train(recipe(), SEED, store, records={"views": KEPT}, **QUIET), views


@pytest.fixture
def own(told, tmp_path):
    """A store of one's own that holds the teacher."""
    shutil.copytree(told[0].path / "runs", tmp_path / "runs" / "runs")
    with Store(tmp_path / "runs") as opened:
        opened.rebuild()
        yield opened


def own_loop(method, task, epochs=1, seed=9, loader=None):
    """A loop that replays, with a student that does not move: yields (epoch, ids, answer of the teacher, gradient)."""
    chain, model = Methods(method), nn.Linear(1, 1)
    load = loader or (lambda chain, e: task.loader("train", 50, seed=seed, epoch=e, views=chain.views(e)))
    with chain.attach(model, still(model), duration=f"{epochs}ep", data=epoch(task), seed=seed):
        for e in range(epochs):
            for _, y in chain.batches(load(chain, e)):
                batch, output = chain._now.batch, torch.zeros(len(y), 10, requires_grad=True)
                found = method._teachers[0](batch, chain.context)
                chain.loss(output, y).backward()
                chain.step()
                yield e, batch.ids, found, output.grad


# ---- exactly ---------------------------------------------------------------------------------------------------------


def test_the_student_sees_what_the_teacher_saw_in_its_own_order(told, own, monkeypatch):
    _, past, seen = told
    views, order = watched(monkeypatch)
    taught = recipe(duration="7ep").with_(Distill(past, source="views"))
    run = train(taught, 9, own, **QUIET)
    compared, task = 0, pictures()
    for (_, e, i), x in views.items():
        # Ten examples of each of the teacher's epochs were in no batch: their views are drawn all the same.
        then = seen.get((SEED, LENGTH - KEPT + e % KEPT, i))
        compared += then is not None
        assert then is None or torch.equal(x, then)
    assert compared > 7 * 180
    for e in range(7):
        ids = task.splits["train"][stream(9, "order", e).permutation(210)][:200]
        assert order[9, e] == ids.tolist()
    assert run.reuse == [{"run": past.id, "how": "views"}] and run.parents == [past.id]
    assert any(not torch.equal(views[9, 0, i], views[9, 1, i]) for i in order[9, 0] if (9, 1, i) in views)


def test_the_target_is_the_stored_row_of_that_epoch(told):
    _, past, _ = told
    records, unknown = past.records(), 0
    assert records.view_epochs == (2, 3, 4) and records.view_seed == SEED
    rows_of = [records.view_rows(k, torch.arange(1797)) for k in range(KEPT)]
    method = Distill(past, source="views", weight=[1.0, 1.0], until=0.99)
    for e, ids, (answer, known), gradient in own_loop(method, pictures(), epochs=4):
        rows, there = (part[ids] for part in rows_of[e % KEPT])
        assert torch.equal(known, there) and torch.equal(answer, rows)
        implied = 0.1 - len(ids) * gradient
        assert torch.allclose(implied[there], rows[there].exp(), atol=2e-5)
        assert torch.allclose(implied[~there].max(1).values, torch.ones(int((~there).sum())), atol=2e-5), "the label"
        unknown += int((~there).sum())
    assert 0 < unknown <= 4 * 10
    assert not torch.equal(rows_of[0][0], rows_of[1][0])


def test_stored_rows_are_what_the_teacher_said_of_those_views(tmp_path):
    """A teacher that does not move says of a view in any epoch what its weights say of it now."""
    recording = recipe("2ep").with_(optimizer={"name": "sgd", "lr": 0.0})
    with Store(tmp_path / "runs") as store:
        past = train(recording, SEED, store, records={"views": 2}, **QUIET)
        model = Session(recording, SEED).model
        model.load_state_dict(past.weights())
        model.eval()
        for e in range(2):
            for ids, x, _ in pictures().loader("train", 50, seed=1, epoch=7, views=(SEED, e)):
                said = model(x).log_softmax(1)
                rows, known = past.records().view_rows(e, ids)
                # Half a step is rounding, the other half what renormalising does with it.
                assert (rows - said)[known].abs().max() < STEP and int(known.sum()) > 35
                other, known = past.records().view_rows(1 - e, ids)
                assert (other - said)[known].abs().max() > 2 * STEP


def test_more_epochs_than_were_trained_are_all_kept(own):
    past = train(recipe(duration="2ep"), 0, own, records={"views": 5}, **QUIET)
    assert past.records().views == 2 and past.records().view_epochs == (0, 1)
    method = Distill(past, source="views")
    shown = {e for e, *_ in own_loop(method, pictures(), epochs=5)}
    assert shown == set(range(5))


@pytest.mark.parametrize("views", [None, 2])
def test_an_interrupted_student_resumes_bit_for_bit(told, own, users, tmp_path, monkeypatch, views):
    past = told[1]
    taught = recipe(duration="4ep").with_(Distill(past, source="views", probability=0.7, until=0.9), "halting:Halt")
    keep = {} if views is None else {"records": {"views": views}}
    with Store(tmp_path / "other") as elsewhere:
        shutil.copytree(own.path / "runs", elsewhere.path / "runs")
        elsewhere.rebuild()
        whole = train(taught, 1, elsewhere, **keep, **QUIET)
    for step in ("5", "10", "15"):
        monkeypatch.setenv("HALT", step)
        with pytest.raises(KeyboardInterrupt):
            train(taught, 1, own, checkpoint_seconds=0.0, **keep, **QUIET)
    monkeypatch.delenv("HALT")
    resumed = train(taught, 1, own, **keep, **QUIET)
    assert resumed.id == whole.id and same_bits(dict(resumed.weights()), dict(whole.weights()))
    left, right = resumed.records(), whole.records()
    assert same_bits(dict(left.tables), dict(right.tables)) and left.about == right.about
    assert left.views == (views or 0)


def test_a_student_hands_on_the_draws_that_it_replayed(told, own, monkeypatch):
    _, past, seen = told
    second = train(recipe(duration="4ep").with_(Distill(past, source="views")), 9, own, records={"views": 2}, **QUIET)
    records = second.records()
    # Its epochs 2 and 3 showed the teacher's epochs 4 and 2.
    assert (records.view_seed, records.view_epochs) == (SEED, (4, 2))
    views, _ = watched(monkeypatch)
    train(recipe(duration="1ep").with_(Distill(second, source="views")), 11, own, **QUIET)
    both = [(x, seen[SEED, 4, i]) for (_, _, i), x in views.items() if (SEED, 4, i) in seen]
    assert len(both) > 180 and all(torch.equal(a, b) for a, b in both)


def test_views_are_ones_own_once_the_teacher_is_left_alone(told):
    chain, task = Methods(Distill(told[1], source="views", until="6st")), pictures()
    chain.reports = False
    assert chain.views(0) is None, "before attach"
    model = nn.Linear(1, 1)
    with chain.attach(model, still(model), duration="3ep", data=epoch(task), seed=0):
        assert [chain.views(e) for e in range(3)] == [(SEED, 2), (SEED, 3), None]
    assert chain.views(0) is None


def test_weight_zero_changes_nothing(told, own):
    runs = [
        train(recipe("2ep").with_(*m), 5, own, **QUIET) for m in ([], [Distill(told[1], source="views", weight=0.0)])
    ]
    assert same_bits(*(dict(run.weights()) for run in runs))


def test_keeping_views_changes_nothing_else(told, tmp_path):
    _, past, _ = told
    with Store(tmp_path / "runs") as store:
        plain = train(recipe(), SEED, store, **QUIET)
        assert same_bits(dict(plain.weights()), dict(past.weights()))
        tables, more = dict(plain.records().tables), dict(past.records().tables)
        assert set(more) - set(tables) == {"views", "views_known"} and not set(tables) - set(more)
        assert same_bits(tables, {name: more[name] for name in tables})
        assert not any(name.startswith("view") for name in plain.records().about)


# ---- refusals --------------------------------------------------------------------------------------------------------


def refused(error, words, call, *args, **more):
    with pytest.raises(error, match=f"(?i){words}") as caught:
        call(*args, **more)
    text = str(caught.value)
    assert ", got " in text and ";" in text.partition(", got ")[2], text


def attempt(method, task=None, **more):
    return list(own_loop(method, task or pictures(), **more))


def test_what_is_no_run_with_views_is_refused(told, own):
    other = train(recipe("1ep"), 1, own, **QUIET)
    refused(StoreError, "not asked for.*records=", attempt, Distill(other, source="views"))
    refused(InvalidValue, "belong to a run", attempt, Distill(nn.Linear(64, 10), source="views"))
    made = clean_pass(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), pictures().clean(50))
    refused(InvalidValue, "belong to a run", attempt, Distill(made, source="views"))
    refused(InvalidValue, "of one run, got 2", Distill, [told[1], other], source="views")


def test_a_loader_that_does_not_say_whose_views_it_shows_leaves_none(own):
    past = recorded(own, Rows(*columns()), records={"views": 2})
    with pytest.raises(StoreError, match="the loader does not say"):
        past.records().view_rows(0, [0])
    assert past.records().has_rows and past.records().classes == CLASSES


@pytest.mark.parametrize("views", [None, (SEED, 3), (9, 0)], ids=["unsaid", "another epoch", "its own"])
def test_an_own_loop_must_show_those_views(told, views):
    def load(chain, e):
        loader = pictures().loader("train", 50, seed=9, epoch=e)
        loader.views = views
        return loader

    words = r"attribute `views`, got .* for \(4, 2\) in epoch 0; write task.loader\(..., views=methods.views\(epoch\)\)"
    refused(LoopError, words, attempt, Distill(told[1], source="views"), loader=load)


def test_a_task_whose_loader_cannot_replay_is_refused(told, own):
    class Bare:
        def __init__(self, task):
            self.task = task

        def __getattr__(self, name):
            return getattr(self.task, name)

        def loader(self, split, batch_size, *, seed=0, epoch=0, start=0):
            return self.task.loader(split, batch_size, seed=seed, epoch=epoch, start=start)

    session = Session(recipe("1ep").with_(Distill(told[1].id, source="views")), 0)
    session.task = Bare(session.task)
    with own.lending(), session.attached():
        refused(InvalidValue, "takes views=", session.loader, 0, 0)


@pytest.mark.parametrize("other", [{"augment": None}, {"pad": 2}], ids=str)
def test_views_made_in_another_way_are_refused(told, other):
    words = "augmentation 'crop-flip, pad 1' of run .* for '(none|crop-flip, pad 2)'"
    refused(InvalidValue, words, attempt, Distill(told[1], source="views"), pictures(**other))
    assert attempt(Distill(told[1], source="records"), pictures(**other))


def test_two_methods_cannot_want_different_views(told, own):
    second = train(recipe("2ep"), 1, own, records={"views": 1}, **QUIET)
    chain, model = Methods(*(Distill(past, source="views") for past in (told[1], second))), net()
    chain.reports = False
    with chain.attach(model, still(model), duration="1ep", data=epoch(pictures()), seed=0):
        refused(Conflict, r"views of one \(seed, epoch\), got \(1, 1\) and \(4, 2\)", chain.views, 0)
