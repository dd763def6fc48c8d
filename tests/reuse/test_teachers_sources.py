"""A run's clean pass, and a run or a module that is run at every step: what they say, and how often they are asked."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reinvest.core.chain import Methods
from reinvest.core.errors import ReinvestError
from reinvest.loop.train import train
from reinvest.methods.losses.distillation import Distill
from reinvest.reuse.clean import clean_pass
from reinvest.testbed.tasks.digits import digits
from teaching import CLASSES, QUIET, STEP, Counted, Rows, columns, epoch, implied, kl, other, small, still, table
from toy_loops import net, own_loop, same_bits, state


def logs(found, ids):
    return table(found, ids).clamp(min=1e-12).log()


# ---- the clean pass ----------------------------------------------------------------------------------------------


def test_the_clean_pass_is_found_beside_the_teachers():
    from reinvest.reuse import teachers

    assert teachers.clean_pass is clean_pass and teachers.CleanPass is type(clean_pass(other(), Rows(*columns())))


def test_a_clean_pass_is_the_models_word_in_eval_mode():
    x, y = columns()
    model = Counted(other(norm=True, dropout=0.5))
    model.inner[0].eval()
    modes, values = {n: m.training for n, m in model.named_modules()}, state(model)
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        found = clean_pass(model, Rows(x, y, range(40)))
        assert torch.equal(torch.get_rng_state(), before)
    assert model.calls == 5 and set(model.modes) == {(False, False)}, "each batch once"
    assert {n: m.training for n, m in model.named_modules()} == modes and same_bits(state(model), values)
    ids = torch.tensor([39, 0, 7, 41, 3])
    rows, known = found.rows(ids)
    assert known.tolist() == [True, True, True, False, True] and bool((rows[3] == 0).all())
    model.eval()
    wanted = model.inner(x[ids]).log_softmax(1).clamp(min=-12)
    assert (rows - wanted)[known].abs().max() <= STEP and rows.dtype == torch.float32
    assert found.seconds > 0


def test_a_clean_pass_teaches_without_further_calls():
    data = Rows(*columns())
    model = Counted(other())
    cached = clean_pass(model, data)
    calls = model.calls
    found = implied(Distill(cached, weight=[1.0, 1.0]), loader=data)
    rows, _ = cached.rows(torch.arange(45))
    assert model.calls == calls
    assert torch.allclose(table(found, range(45)), rows.softmax(1), atol=2e-5)
    missing = clean_pass(model, Rows(*columns(), range(20)))
    found = implied(Distill(missing, weight=[1.0, 1.0]), loader=data)
    labels = F.one_hot(data.y, CLASSES).float()
    assert torch.allclose(table(found, range(20, 45)), labels[20:], atol=2e-5)


def plain_pictures(examples):
    """The un-augmented training pictures by id: ids [n], x [n, ...]."""
    ids, x, _ = (torch.cat(c) for c in zip(*epoch(digits(train_examples=examples)), strict=True))
    return ids, x


def test_a_runs_clean_pass_reads_the_unaugmented_examples_once_and_is_kept_for_the_next_student(store, users):
    past = train(small(model="halting:build", augment="crop-flip"), 0, store, records=False, **QUIET)
    users.calls.clear()
    student = small(duration="2ep", augment="crop-flip").with_(Distill(past))
    first = train(student, 0, store, **QUIET)
    assert sum(rows for rows, _, _ in users.calls if rows > 1) >= 200
    assert sum(rows for rows, *_ in users.calls) <= 210, "each training example once (and perhaps a try)"
    assert {(training, grads) for _, training, grads in users.calls} == {(False, False)}
    assert json.loads((first.path / "run.json").read_text())["reuse"] == [{"run": past.id, "how": "clean pass"}]
    assert first.cost["one_off_seconds"] > 0 and first.seconds > first.cost["one_off_seconds"]
    users.calls.clear()
    second = train(student, 1, store, **QUIET)
    assert users.calls == [] and second.parents == [past.id]

    task = digits(train_examples=200, augment="crop-flip")
    with store.lending():
        found = implied(Distill(past, source="clean pass", weight=[1.0, 1.0]), loader=epoch(task), classes=10)
    model = users.build(input_shape=(1, 8, 8), classes=10)
    model.load_state_dict(past.weights())
    ids, x = plain_pictures(200)
    wanted = model.eval()(x).log_softmax(1)
    above = wanted > -11.5
    assert ((logs(found, ids) - wanted)[above].abs() <= STEP).all() and bool((logs(found, ids)[~above] < -11).all())


def test_a_clean_pass_covers_grown_data(store, users):
    """Unlike records, it knows the examples that the teacher never saw."""
    past = train(small(100, model="halting:build", duration="16ep"), 0, store, **QUIET)
    with store.lending():
        found = implied(
            Distill(past, source="clean pass", weight=[1.0, 1.0]),
            loader=epoch(digits(train_examples=300)),
            classes=10,
        )
    model = users.build(input_shape=(1, 8, 8), classes=10)
    model.load_state_dict(past.weights())
    ids, x = plain_pictures(300)
    wanted = model.eval()(x).softmax(1)
    assert len(ids) == 300
    assert (table(found, ids) - wanted).abs().max() <= STEP * 1.1, "an error of e in a log is one of at most e p here"


# ---- at every step -----------------------------------------------------------------------------------------------


def test_a_run_that_is_run_at_every_step_is_called_exactly_so_often(store, users):
    past = train(small(model="halting:build", duration="1ep"), 0, store, **QUIET)
    for more, wanted in (({"until": 0.5}, 4), ({"every": 3}, 3), ({"until": 0.5, "every": 3}, 2)):
        users.calls.clear()
        run = train(small(duration="2ep").with_(Distill(past, source="forward", **more)), 0, store, **QUIET)
        assert [c for c in users.calls if c[0] == 50] == [(50, False, False)] * wanted == users.calls
        assert json.loads((run.path / "run.json").read_text())["reuse"] == [{"run": past.id, "how": "forward"}]
    assert store.verify() == []


def test_a_run_that_is_run_sees_the_students_views(store, users):
    past = train(small(model="halting:build"), 0, store, **QUIET)
    model = users.build(input_shape=(1, 8, 8), classes=10)
    model.load_state_dict(past.weights())
    model.eval()
    data, student = epoch(digits(train_examples=200, augment="crop-flip")), nn.Linear(64, 10)
    chain = Methods(Distill(past, source="forward", weight=[1.0, 1.0]))
    with (
        store.lending(),
        chain.attach(student, still(student), duration="1ep", data=data, seed=0),
    ):
        for x, y in chain.batches(data):
            output = student(x.flatten(1))
            found = chain.loss(output, y).item()
            chain.step()
            assert found == pytest.approx(kl(output, model(x)).mean().item(), rel=1e-3)


def test_a_module_is_run_at_every_step_unless_told_otherwise():
    # open: "auto" names runs only; a module has neither records nor a data set, so it is run
    model = Counted(other())
    own_loop(Methods(Distill(model)), net(), Rows(*columns()), epochs=1)
    assert model.calls == 5


def test_sources_in_order_of_cost(store, users):
    """auto: records if there are rows, else one clean pass; a source that is not there is refused."""
    silent = train(small(model="halting:build"), 0, store, records=False, **QUIET)
    with pytest.raises(ReinvestError, match=f"{silent.id}.*records"):
        train(small(duration="1ep").with_(Distill(silent, source="records")), 0, store, **QUIET)
    told = train(small(duration="1ep").with_(Distill(silent, source="clean pass")), 0, store, **QUIET)
    auto = train(small(duration="1ep").with_(Distill(silent)), 0, store, **QUIET)
    assert same_bits(dict(told.weights()), dict(auto.weights()))
    assert math.isfinite(auto.quality("accuracy", "validation"))
