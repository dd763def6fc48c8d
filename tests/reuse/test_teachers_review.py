"""Teachers in places where they once taught something wrong: new classes, moved pixels, far ancestors, unlike layouts."""

from __future__ import annotations

import pytest
import torch
from test_teachers_refusals import HASHES, roles, rows
from torch import nn
from torch.nn import functional as F

from reinvest.core.batch import Indexed
from reinvest.core.chain import Methods
from reinvest.core.errors import DataError, InvalidValue
from reinvest.core.recipe import Recipe
from reinvest.evaluation.compare import point_of
from reinvest.evaluation.plan import Job
from reinvest.loop.session import Session
from reinvest.loop.train import train
from reinvest.methods.losses.distillation import Distill
from reinvest.reuse.clean import clean_pass
from reinvest.store import Store
from reinvest.testbed.tasks.segmentation import SegmentationTask
from teaching import QUIET, Rows, columns, implied, other, recorded, still
from toy_loops import net, own_loop

FIVE = ("ant", "bee", "cat", "dog", "eel")


@pytest.fixture
def shelf_of_one(tmp_path):
    with Store(tmp_path / "runs") as store:
        yield store


@pytest.mark.parametrize("source", ["records", "clean pass", "forward"])
def test_examples_of_classes_that_the_teacher_never_met_are_unknown_to_it(shelf_of_one, source):
    few = Recipe(task={"name": "digits", "first_classes": 5}, model="mlp", duration="1ep", batch_size=64)
    past = train(few, 0, shelf_of_one, **QUIET)
    recipe = few.with_(Distill(past, source=source), task="digits")
    with shelf_of_one.lending():
        session = Session(recipe, 1)
        with session.attached() as methods:
            teacher = methods.members[0]._teachers[0]
            for batch in methods.batches(session.loader(0, 0)):
                _, known = teacher(methods._now.batch, methods.context)
                assert not bool(known[batch[1] >= 5].any()) and bool(known.any())
                # One epoch drops the rest that fills no batch: records may know fewer.
                assert source == "records" or torch.equal(known, batch[1] < 5)
                session.step(batch)


def test_a_grown_head_is_taught_about_old_classes_only(shelf_of_one):
    past = recorded(shelf_of_one, rows(class_names=FIVE[:4]))
    x, y = columns()
    y = y.clone()
    new = torch.tensor([2, 5, 11])
    y[new] = 4
    hashes = HASHES.clone()
    hashes[new] = 0  # not hashed: only what the labels say counts
    loader = rows(x=x, y=y, class_names=FIVE, classes=5, hashes=lambda: hashes)
    found = implied(Distill(past, weight=[1.0, 1.0]), loader=loader, classes=5)
    for i in range(20):
        taught = found[i]
        if i in new.tolist():
            assert torch.allclose(taught, F.one_hot(y[i], 5).double().to(taught.dtype), atol=1e-5), "plain loss"
        else:
            assert taught[4] < 1e-4 and taught.max() < 0.99999


def maps(count=12, size=8):
    draws = torch.Generator().manual_seed(0)
    x = torch.rand(count, 3, size, size, generator=draws)
    return x, (x[:, 0] > 0.5).long()


def segmentation(augment):
    x, y = maps()
    splits = {"train": range(8), "validation": range(8, 10), "test": range(10, 12)}
    return SegmentationTask.from_maps("maps", x, y, splits=splits, classes=2, augment=augment)


class Perfect(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(8.0))

    def forward(self, x):
        return torch.stack([0.5 - x[:, 0], x[:, 0] - 0.5], 1) * self.scale


def test_pixels_of_moved_views_are_not_looked_up():
    task = segmentation("flip")
    loader = task.loader("train", 4, seed=0, epoch=0)
    past = clean_pass(Perfect(), segmentation(None).loader("train", 4))
    student = nn.Conv2d(3, 2, 1)
    chain = Methods(Distill(past)).attach(student, still(student), duration="1ep", data=loader, seed=0)
    with pytest.raises(InvalidValue, match="training views that move them"), chain:
        pass


@pytest.mark.filterwarnings("ignore::reinvest.reuse.fit.ReuseWarning")
def test_a_teachers_teacher_that_has_seen_the_test_examples_is_refused(shelf_of_one):
    first = recorded(shelf_of_one, rows(range(40), fingerprint="a", roles=roles(train=range(40))), name="a")
    between = rows(fingerprint="b", roles=roles(train=range(20), validation=range(20, 25), test=range(44, 45)))
    second = recorded(shelf_of_one, between, net(), Distill(first), name="b")
    assert second.parents == [first.id]
    last = rows(fingerprint="c", roles=roles(train=range(20), validation=range(20, 25), test=range(30, 40)))
    with pytest.raises(InvalidValue, match=f"got 10 of them .* run '{first.id}'"):
        own_loop(Methods(Distill(second)), net(), last, epochs=1)


def test_a_clean_pass_over_other_content_is_refused():
    x, y = columns()
    order = torch.randperm(45, generator=torch.Generator().manual_seed(1))
    past = clean_pass(other(), Rows(x[order], y[order], hashes=lambda: HASHES[order]))
    with pytest.raises(DataError, match="content or label differs"):
        own_loop(Methods(Distill(past)), net(), Rows(x, y, hashes=lambda: HASHES), epochs=1)
    blind = clean_pass(other(), Rows(x[order], y[order]))
    with pytest.raises(DataError, match="another label"):
        own_loop(Methods(Distill(blind)), net(), Rows(x, y), epochs=1)


class Words(nn.Module):
    """Logits [B, C, T], or [B, T, C], that depend on the token alone."""

    def __init__(self, seed, *, last):
        super().__init__()
        draws = torch.Generator().manual_seed(seed)
        self.table = nn.Parameter(torch.randn(9, 7, generator=draws))
        self.last = last

    def forward(self, x):
        found = self.table[x]
        return found if self.last else found.movedim(-1, 1)


def sentences():
    draws = torch.Generator().manual_seed(3)
    x = torch.randint(9, (4, 5), generator=draws)
    return x, torch.randint(7, (4, 5), generator=draws)


@pytest.mark.parametrize("last", [False, True])
def test_a_language_model_that_shifts_its_labels_is_taught_position_by_position(last):
    x, y = sentences()
    student, teacher = Words(0, last=last), Words(1, last=last)
    chain = Methods(Distill(teacher, source="forward", weight=[1.0, 1.0]))
    with chain.attach(student, still(student), duration="1st", data=[(x, y)], seed=0):
        for a, b in chain.batches([(x, y)]):
            out = student(a)
            out = out[:, :-1] if last else out[:, :, :-1]
            found = chain.loss(out, b[:, 1:])
            chain.step()
    p, q = teacher.table[x][:, :-1].log_softmax(-1), student.table[x][:, :-1].log_softmax(-1)
    assert torch.allclose(found, (p.exp() * (p - q)).sum(-1).mean(), atol=1e-6)


class Named(nn.Module):
    """Words in Hugging Face's manner: tokens by name."""

    def __init__(self, words):
        super().__init__()
        self.words = words

    def forward(self, input_ids):
        return self.words(input_ids)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("kind", ["tensor", "one of a tuple", "dict", "pair"])
def test_a_target_that_the_loop_passes_tells_the_layout_where_the_loader_yields_none(kind, last, parts):
    x, y = sentences()
    y[0, 1:] = y[1] = -100
    student, teacher = Words(0, last=last), Words(1, last=last)
    asked = Named(teacher) if kind == "dict" else teacher
    item = {"tensor": x, "one of a tuple": (x,), "dict": {"input_ids": x}, "pair": (x, y)}[kind]
    chain, found = Methods(Distill(asked, source="forward", weight=[1.0, 1.0])), 0.0
    with chain.attach(student, still(student), duration="1st", data=[item], seed=0):
        for k, part in enumerate(chain.batches([item], parts)):
            a = part if kind == "tensor" else part["input_ids"] if kind == "dict" else part[0]
            found += chain.loss(student(a), y.chunk(parts)[k])
            chain.step()
    p, q = teacher.table[x].log_softmax(-1), student.table[x].log_softmax(-1)
    valid = y != -100
    kd = ((p.exp() * (p - q)).sum(-1) * valid).sum(1) / valid.sum(1).clamp(min=1)
    assert kd[1] == 0 and found.item() == pytest.approx(kd.sum().item() / 4, abs=1e-6)


@pytest.mark.parametrize("classes", [5, 7])
def test_a_teacher_of_whole_tokens_is_refused_where_the_loop_shifts_them_itself(classes):
    x = sentences()[0] % classes
    student, teacher = Words(0, last=True), Words(1, last=True)
    for words in (student, teacher):
        words.table = nn.Parameter(words.table[:, :classes].detach().clone())
    chain = Methods(Distill(teacher, source="forward", weight=[1.0, 1.0]))
    with chain.attach(student, still(student), duration="1st", data=[x], seed=0):
        for a in chain.batches([x]):
            with pytest.raises(InvalidValue, match=r"at 5 positions for targets at 4; let the loader yield inputs and"):
                chain.loss(student(a)[:, :-1], a[:, 1:])
            chain.step()


def test_of_logits_with_the_classes_second_a_teachers_last_position_is_cut_off_too():
    x = sentences()[0] % 7
    student, teacher = Words(0, last=False), Words(1, last=False)
    chain = Methods(Distill(teacher, source="forward", weight=[1.0, 1.0]))
    with chain.attach(student, still(student), duration="1st", data=[x], seed=0):
        for a in chain.batches([x]):
            found = chain.loss(student(a)[..., :-1], a[:, 1:])
            chain.step()
    p, q = teacher.table[x][:, :-1].log_softmax(-1), student.table[x][:, :-1].log_softmax(-1)
    assert torch.allclose(found, (p.exp() * (p - q)).sum(-1).mean(), atol=1e-6)


def test_teachers_of_unlike_layouts_are_averaged_in_one():
    x, y = sentences()
    student, pool = Words(0, last=False), [Words(1, last=False), Words(2, last=True)]
    chain = Methods(Distill(pool, source="forward", weight=[1.0, 1.0], pool="average"))
    with chain.attach(student, still(student), duration="1st", data=[(x, y)], seed=0):
        for a, b in chain.batches([(x, y)]):
            found = chain.loss(student(a), b)
            chain.step()
    p = ((pool[0].table[x] + pool[1].table[x]) / 2).log_softmax(-1)
    q = student.table[x].log_softmax(-1)
    assert torch.allclose(found, (p.exp() * (p - q)).sum(-1).mean(), atol=1e-6)


def test_reweighing_leaves_alone_what_not_all_averaged_teachers_know(shelf_of_one):
    x, y = columns()
    everything = recorded(shelf_of_one, Rows(x, y))
    others = recorded(shelf_of_one, Rows(x, y, range(27, 45)), seed=1)
    more = {"weight": [0.5, 0.4], "every": 2, "reweigh": True, "pool": "average"}
    for ids, taught in ((range(0, 27), False), (range(27, 45), True)):
        loader = Rows(x, y, ids)
        found = step_losses(net(), loader, Distill([everything, others], **more))
        plain = step_losses(net(), loader)
        steps = len(loader) * 8
        lighter = [1 - (0.5 - 0.1 * k / steps) if taught else 1.0 for k in range(steps)]
        assert found[1::2] == pytest.approx([v * p for v, p in zip(lighter, plain, strict=True)][1::2], rel=1e-6)
        if not taught:
            assert found == pytest.approx(plain, rel=1e-6)


def step_losses(student, loader, *methods, epochs=8):
    chain, found = Methods(*methods), []
    with chain.attach(student, still(student), duration=f"{epochs}ep", data=loader, seed=0):
        for _ in range(epochs):
            for a, b in chain.batches(loader):
                found.append(chain.loss(student(a), b).item())
                chain.step()
    return found


def test_averaged_teachers_with_unlike_classes_are_refused():
    x, y = columns(7)
    student = net()
    chain = Methods(Distill([other(), other(classes=5)], source="forward", pool="average"))
    with chain.attach(student, still(student), duration="1st", data=[(x, y)], seed=0):
        for a, b in chain.batches([(x, y)]):
            with pytest.raises(InvalidValue, match="that are averaged answer alike, got"):
                chain.loss(student(a), b)
            chain.step()


def test_until_beyond_the_run_is_refused_when_training_begins():
    x, y = columns(7)
    student = net()
    method = Distill(other(), until="50ep")
    chain = Methods(method).attach(student, still(student), duration="1ep", data=[(x, y)], seed=0)
    with pytest.raises(InvalidValue, match="until lies within the run, got '50ep' for a run of 1 steps"), chain:
        pass


def test_records_alone_are_no_teacher(shelf_of_one):
    past = recorded(shelf_of_one, rows())
    with pytest.raises(InvalidValue, match="a teacher is a run"):
        Distill(past.records())


def test_labels_that_a_criterion_leaves_out_do_not_stop_a_recorded_loop(shelf_of_one):
    x, y = maps(4)
    y = y.clone()
    y[:, 0] = 255
    student = nn.Conv2d(3, 2, 1)

    def criterion(output, target):
        return F.cross_entropy(output, target, reduction="none", ignore_index=255)

    loader = torch.utils.data.DataLoader(Indexed(list(zip(x, y, strict=True))), batch_size=4)
    with shelf_of_one.record("maps", task="maps", facts={"hardware": {}, "software": {}}) as writer:
        own_loop(Methods(), student, loader, epochs=1, optimizer=still(student), criterion=criterion)
    loss = writer.run.records().loss[0]
    with torch.no_grad():
        wanted = criterion(student(x), y).flatten(1).sum(1) / (y != 255).flatten(1).sum(1)
    assert torch.allclose(loss, wanted, rtol=2**-11)


def test_a_comparison_charges_what_re_use_costs_once():
    class Done:
        status, seconds, steps, id = "finished", 9.0, 10, "run"

        def __init__(self):
            self.cost = {"one_off_seconds": 0.5}

        def quality(self, metric, split):
            return 0.7

    class Plan:
        metric, curve = "accuracy", "separate"

    job = Job("taught", "1ep", 0, 0, "command", "identity")
    assert point_of(Plan(), job, Done(), {("taught", "1ep"): 2.0})["seconds"] == 2.5
    assert point_of(Plan(), job, Done(), {})["seconds"] == 9.0
