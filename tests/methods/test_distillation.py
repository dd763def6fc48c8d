"""Distillation as a loss: formula, direction, weight over the run, and what it does beside other methods."""

from __future__ import annotations

import math
import types

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reinvest.core.batch import ID_KEY
from reinvest.core.chain import Methods
from reinvest.methods.augment.mixup import Mixup
from reinvest.methods.losses.distillation import Distill, distillation_losses
from reinvest.methods.targets.label_smoothing import LabelSmoothing
from reinvest.methods.weights.ema import EMA
from reinvest.store import Store
from teaching import CLASSES, DOUBLE, Counted, Rows, columns, implied, kl, losses_of, other, plain_loss, recorded, still
from toy_loops import loader as toy_loader
from toy_loops import net, own_loop, same_bits, state

GENERATOR = torch.Generator().manual_seed(5)
STUDENT, TEACHER = (3 * torch.randn(6, 5, generator=GENERATOR, dtype=DOUBLE) for _ in range(2))


def one_step(chain, output, target, x=None):
    """The loss of a step whose model output is given."""
    model = nn.Linear(1, 1)
    data = [(torch.zeros(len(output), 1) if x is None else x, target)]
    with chain.attach(model, still(model), duration="1st", data=data, seed=0):
        ((_, y),) = chain.batches(data)
        return chain.loss(output, y)


# ---- the function ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_kl_is_the_sum_over_the_teachers_probabilities(temperature):
    found = distillation_losses(STUDENT, TEACHER, temperature=temperature, loss="kl")
    assert found.shape == (6,)
    assert torch.allclose(found, kl(STUDENT, TEACHER, temperature), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_kl_of_a_distribution_with_itself_is_zero_and_so_is_its_gradient(temperature):
    student = TEACHER.clone().requires_grad_()
    # Logits are known up to a constant a row.
    found = distillation_losses(student, TEACHER + 2.0, temperature=temperature, loss="kl")
    found.sum().backward()
    assert found.abs().max() < 1e-12 and student.grad.abs().max() < 1e-12


def test_kl_is_not_symmetric_and_the_teacher_comes_first():
    there = distillation_losses(STUDENT, TEACHER, temperature=1.0, loss="kl")
    back = distillation_losses(TEACHER, STUDENT, temperature=1.0, loss="kl")
    assert (there - back).abs().min() > 1e-3
    # A teacher that is sure costs -log p of its class; a sure student that is wrong costs far more the other way.
    sure = torch.tensor([[50.0, 0.0, 0.0]], dtype=DOUBLE)
    flat = torch.zeros(1, 3, dtype=DOUBLE)
    assert distillation_losses(flat, sure, temperature=1.0, loss="kl").item() == pytest.approx(math.log(3))
    assert distillation_losses(sure, flat, temperature=1.0, loss="kl").item() > 30


def test_kl_at_high_temperature_is_half_the_mean_squared_difference_of_centred_logits():
    """softmax(z/T) = (1 + (z - mean z)/T)/C to first order and KL is half chi squared, so T^2 KL -> mean(d^2)/2."""
    difference = (STUDENT - STUDENT.mean(1, keepdim=True)) - (TEACHER - TEACHER.mean(1, keepdim=True))
    limit = difference.square().mean(1) / 2
    errors = []
    for temperature in (1e2, 1e3, 1e4):
        found = distillation_losses(STUDENT, TEACHER, temperature=temperature, loss="kl")
        errors.append(((found - limit).abs() / limit).max().item())
    assert errors[2] < 1e-2 and errors[1] < errors[0] / 5 and errors[2] < errors[1] / 5, "first order in 1/T"


def test_mse_is_the_mean_over_classes_of_squared_differences_of_logits():
    wanted = (STUDENT - TEACHER).square().mean(1)
    found = distillation_losses(STUDENT, TEACHER, temperature=1.0, loss="mse")
    assert torch.allclose(found, wanted, rtol=1e-12)
    # open: nothing is said of the temperature in this loss, so it has none
    assert torch.allclose(distillation_losses(STUDENT, TEACHER, temperature=4.0, loss="mse"), wanted, rtol=1e-12)


@pytest.mark.parametrize("loss", ["kl", "mse"])
def test_gradients_reach_the_student_only(loss):
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    distillation_losses(student, teacher.detach(), temperature=2.0, loss=loss).sum().backward()
    if loss == "kl":
        wanted = 2.0 * ((STUDENT / 2.0).softmax(1) - (TEACHER / 2.0).softmax(1))
    else:
        wanted = 2 / 5 * (STUDENT - TEACHER)
    assert torch.allclose(student.grad, wanted, atol=1e-12)


def test_a_teacher_that_excludes_a_class_gives_finite_losses_and_gradients():
    teacher = torch.tensor([[400.0, 0.0, -400.0]])
    student = torch.zeros(1, 3, requires_grad=True)
    found = distillation_losses(student, teacher, temperature=1.0, loss="kl")
    found.sum().backward()
    assert found.item() == pytest.approx(math.log(3), abs=1e-5)
    assert torch.allclose(student.grad, torch.tensor([[-2 / 3, 1 / 3, 1 / 3]]), atol=1e-6)


# ---- the method --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["kl", "mse"])
@pytest.mark.parametrize("a", [0.3, 1.0])
def test_an_example_costs_its_label_and_its_teacher_in_the_stated_shares(loss, a):
    x, y = columns(7, DOUBLE)
    student, teacher = net(dtype=DOUBLE), other(dtype=DOUBLE)
    found = losses_of(Distill(teacher, source="forward", weight=[a, a], temperature=2.0, loss=loss), total=1)[0]
    s, t = student(x), teacher(x)
    kd = kl(s, t, 2.0) if loss == "kl" else (s - t).square().mean(1)
    assert found == pytest.approx(((1 - a) * F.cross_entropy(s, y, reduction="none") + a * kd).mean().item(), rel=1e-6)


def test_the_students_gradient_is_the_mix_of_both():
    x, y = columns(7, DOUBLE)
    student, teacher = net(dtype=DOUBLE), other(dtype=DOUBLE)
    output = student(x).detach().requires_grad_()
    one_step(Methods(Distill(teacher, source="forward", weight=[0.7, 0.7])), output, y, x).backward()
    p = output.detach().softmax(1)
    wanted = 0.3 * (p - F.one_hot(y, CLASSES)) + 0.7 * (p - teacher(x).detach().softmax(1))
    assert torch.allclose(output.grad, wanted / 7, atol=1e-7)


def shares(method, total):
    """The distillation weight at each step, solved from the losses."""
    x, _ = columns(7, DOUBLE)
    s, t = net(dtype=DOUBLE)(x), other(dtype=DOUBLE)(x)
    ce, kd = plain_loss(), kl(s, t).mean().item()
    return [(value - ce) / (kd - ce) for value in losses_of(method, total=total)]


def make(**more):
    return Distill(other(dtype=DOUBLE), source="forward", **more)


def test_the_default_weight_falls_from_0_9_to_0_at_the_end():
    assert shares(make(), 20) == pytest.approx([0.9 * (1 - s / 20) for s in range(20)], abs=1e-5)


@pytest.mark.parametrize("until", [0.5, "10st", "0.5"])
def test_one_number_falls_to_0_at_until(until):
    wanted = [0.8 * (1 - s / 10) for s in range(10)] + [0.0] * 10
    assert shares(make(weight=0.8, until=until), 20) == pytest.approx(wanted, abs=1e-5)


def test_a_pair_goes_from_the_first_to_the_second_at_until():
    wanted = [0.2 + 0.6 * s / 10 for s in range(10)] + [0.0] * 10
    assert shares(make(weight=[0.2, 0.8], until=0.5), 20) == pytest.approx(wanted, abs=1e-5)
    assert shares(make(weight=(0.4, 0.4)), 6) == pytest.approx([0.4] * 6, abs=1e-5)


def test_epochs_are_a_duration_too():
    data = [columns(7, DOUBLE)] * 5
    teacher = Counted(other(dtype=DOUBLE))
    own_loop(Methods(Distill(teacher, source="forward", until="2ep")), net(dtype=DOUBLE), data, epochs=4)
    assert teacher.calls == 10


def test_rare_steps_that_are_reweighed_cost_as_much_as_all_steps_together():
    """Unbiased: the mean over the pattern of duty is the loss of distilling at every step."""
    every_step = losses_of(make(weight=[0.6, 0.6]), total=1)[0]
    rare = losses_of(make(weight=[0.6, 0.6], every=4, reweigh=True), total=20)
    assert sum(rare) / 20 == pytest.approx(every_step, rel=1e-6)
    assert len({round(v, 9) for v in rare}) == 2 and rare[1] == pytest.approx(0.4 * plain_loss(), rel=1e-6)


def test_random_steps_that_are_reweighed_cost_as_much_in_expectation():
    every_step = losses_of(make(weight=[0.6, 0.6]), total=1)[0]
    for every, probability in ((1, 0.25), (2, 0.5)):
        found = losses_of(make(weight=[0.6, 0.6], every=every, probability=probability, reweigh=True), total=60)
        off, on = min(found), max(found)
        share = probability / every
        assert share * on + (1 - share) * off == pytest.approx(every_step, rel=1e-6)


def test_reweighing_ends_with_the_window():
    # open: "on all steps" is read as all steps before `until`; afterwards nothing is taken off the label's loss
    found = losses_of(make(weight=[0.6, 0.6], every=2, until=0.5, reweigh=True), total=12)
    assert found[6:] == [plain_loss()] * 6 and found[1] != plain_loss()


# ---- several teachers --------------------------------------------------------------------------------------------


def gradient(teachers, loss, **more):
    x, y = columns(7, DOUBLE)
    model = net(dtype=DOUBLE)
    method = Distill(teachers, source="forward", weight=[1.0, 1.0], loss=loss, **more)
    one_step(Methods(method), model(x), y, x).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def test_a_random_teachers_mse_gradient_is_the_ensembles_in_expectation_and_kl_is_not():
    """MSE is linear in the teacher's logits, so one of n at random teaches like their mean; KL on mean logits does not."""
    teachers = [other(k, dtype=DOUBLE) for k in range(4)]
    for loss, equal in (("mse", True), ("kl", False)):
        mean = torch.stack([gradient([t], loss) for t in teachers]).mean(0)
        ensemble = gradient(teachers, loss, pool="average")
        apart = (mean - ensemble).norm() / ensemble.norm()
        assert apart < 1e-6 if equal else apart > 0.05


@pytest.mark.parametrize("loss", ["kl", "mse"])
def test_the_average_is_that_of_logits(loss):
    x, _ = columns(7, DOUBLE)
    teachers = [other(k, dtype=DOUBLE) for k in range(3)]
    mean = torch.stack([t(x) for t in teachers]).mean(0).detach()
    wanted = gradient(lambda _: mean, loss)
    assert (gradient(teachers, loss, pool="average") - wanted).norm() < 1e-6 * wanted.norm()


# ---- beside other methods ----------------------------------------------------------------------------------------


def test_label_smoothing_changes_the_label_term_only():
    x, y = columns(7, DOUBLE)
    teacher = other(dtype=DOUBLE)
    found = losses_of(LabelSmoothing(0.2), Distill(teacher, source="forward", weight=[0.6, 0.6]), total=1)[0]
    s = net(dtype=DOUBLE)(x)
    label = F.cross_entropy(s, y, reduction="none", label_smoothing=0.2)
    assert found == pytest.approx((0.4 * label + 0.6 * kl(s, teacher(x))).mean().item(), rel=1e-6)


def test_a_teacher_that_is_run_sees_the_mixed_examples():
    x, y = columns(7, DOUBLE)
    teacher, model = Counted(other(dtype=DOUBLE)), net(dtype=DOUBLE)
    chain = Methods(Mixup(1.0), Distill(teacher, source="forward", weight=[0.6, 0.6]))
    with chain.attach(model, still(model), duration="1st", data=[(x, y)], seed=0):
        for mixed, target in chain.batches([(x, y)]):
            mix = chain._now.batch.mix
            loss = chain.loss(model(mixed), target).item()
            chain.step()
    assert torch.equal(teacher.inputs[0], mixed) and not torch.equal(mixed, x)
    s, c = model(mixed), mix.coefficients
    label = c * F.cross_entropy(s, y, reduction="none") + (1 - c) * F.cross_entropy(s, mix.partners, reduction="none")
    assert loss == pytest.approx((0.4 * label + 0.6 * kl(s, teacher.inner(mixed))).mean().item(), rel=1e-6)


def mixed_targets(run, records, loader, *methods):
    """(target of each example, own row, partner's row, c, both known, mixed labels) over one epoch with Mixup."""
    chain, model, found = Methods(*methods), nn.Linear(1, 1), []
    with chain.attach(model, still(model), duration="1ep", data=loader, seed=3):
        for _, y in chain.batches(loader):
            batch = chain._now.batch
            output = torch.zeros(len(y), CLASSES, requires_grad=True)
            chain.loss(output, y).backward()
            chain.step()
            own, known = records.rows(batch.ids)
            partner, partner_known = records.rows(batch.mix.ids)
            c = batch.mix.coefficients.float().unsqueeze(1)
            labels = c * F.one_hot(y, CLASSES) + (1 - c) * F.one_hot(batch.mix.partners, CLASSES)
            rows = c * own.softmax(1) + (1 - c) * partner.softmax(1)
            taught = 1 / CLASSES - len(y) * output.grad
            found += list(zip(taught, rows, labels, known & partner_known, strict=True))
    return found


def test_recorded_rows_are_mixed_in_probability_with_the_batchs_coefficients(tmp_path):
    store, data = Store(tmp_path / "runs"), Rows(*columns())
    run = recorded(store, data)
    found = mixed_targets(run, run.records(), data, Mixup(1.0), Distill(run, weight=[1.0, 1.0]))
    assert len(found) == 45 and all(known for *_, known in found)
    for taught, rows, labels, _ in found:
        assert torch.allclose(taught, rows, atol=2e-5) and not torch.allclose(taught, labels, atol=1e-2)


def test_a_blend_with_an_example_that_the_records_miss_keeps_the_plain_loss(tmp_path):
    # open: "missing rows keep the plain loss" is read as: both of a blend must be known
    store, x, y = Store(tmp_path / "runs"), *columns()
    run = recorded(store, Rows(x, y, range(30)))
    found = mixed_targets(run, run.records(), Rows(x, y), Mixup(1.0), Distill(run, weight=[1.0, 1.0]))
    kinds = {bool(known) for *_, known in found}
    assert kinds == {True, False}
    for taught, rows, labels, known in found:
        assert torch.allclose(taught, rows if known else labels, atol=2e-5)


@pytest.mark.parametrize("companion", [lambda: LabelSmoothing(0.2), lambda: Mixup(1.0), lambda: EMA(decay=0.5)])
def test_order_across_phases_does_not_matter(companion):
    found = []
    for order in (1, -1):
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        members = [companion(), Distill(other(), source="forward")][::order]
        data = toy_loader(indexed=True)
        chain = Methods(*members)
        with chain.attach(model, optimizer, duration="2ep", data=data, seed=0):
            for _ in range(2):
                for x, y in chain.batches(data):
                    chain.loss(model(x), y).backward()
                    chain.step()
                with chain.averaged():
                    pass
        found.append(state(model))
    assert same_bits(*found)


# ---- other kinds of output and batch -----------------------------------------------------------------------------

TARGET = torch.tensor([[1, -100, 3, 0], [-100, -100, -100, -100], [2, 2, 0, 1]])


@pytest.mark.parametrize("layout", ["class second", "class last"])
@pytest.mark.parametrize("loss", ["kl", "mse"])
def test_dense_losses_are_means_over_valid_positions(loss, layout):
    generator = torch.Generator().manual_seed(1)
    s, t = (torch.randn(3, 5, 4, generator=generator, dtype=DOUBLE) for _ in range(2))
    if layout == "class last":
        output, logits = s.movedim(1, -1), t.movedim(1, -1)
    else:
        output, logits = s, t
    per_position = kl(s, t) if loss == "kl" else (s - t).square().mean(1)
    valid = TARGET != -100
    count = valid.sum(1).clamp(min=1)
    ce = F.cross_entropy(s, TARGET, reduction="none").sum(1) / count
    kd = (per_position * valid).sum(1) / count
    method = Distill(lambda _: logits, source="forward", weight=[0.6, 0.6], loss=loss)
    assert one_step(Methods(method), output, TARGET).item() == pytest.approx(
        (0.4 * ce + 0.6 * kd).mean().item(), rel=1e-6
    )
    by_token = one_step(Methods(method, reduction="token"), output, TARGET).item()
    assert by_token == pytest.approx(((0.4 * ce + 0.6 * kd) * valid.sum(1) / valid.sum()).sum().item(), rel=1e-6)


def test_pictures_of_labels_are_dense_too():
    generator = torch.Generator().manual_seed(2)
    s, t = (torch.randn(2, 3, 4, 5, generator=generator, dtype=DOUBLE) for _ in range(2))
    target = torch.randint(3, (2, 4, 5), generator=generator)
    target[0, :2] = -100
    valid = target != -100
    kd = (kl(s, t) * valid).sum((1, 2)) / valid.sum((1, 2))
    found = one_step(Methods(Distill(lambda _: t, source="forward", weight=[1.0, 1.0])), s, target)
    assert found.item() == pytest.approx(kd.mean().item(), rel=1e-6)


class Speaker(nn.Module):
    """A model in Hugging Face's manner: fields by name, an object with logits."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = other()
        self.seen: list[set[str]] = []

    def forward(self, pixel_values, attention_mask, labels=None):
        self.seen.append({"pixel_values"} | ({"attention_mask"} if attention_mask is not None else set()))
        return types.SimpleNamespace(logits=self.inner(pixel_values) * attention_mask, loss=None)


@pytest.mark.parametrize("ids", [True, False])
def test_batches_that_are_dicts_and_teachers_that_return_objects(ids):
    x, y = columns(7)
    item = {"pixel_values": x, "labels": y, "attention_mask": torch.full((7, 1), 0.5)}
    data = [item | ({ID_KEY: torch.arange(7)} if ids else {})]
    teacher, model = Speaker(), net()
    chain = Methods(Distill(teacher, source="forward", weight=[1.0, 1.0]))
    with chain.attach(model, still(model), duration="1st", data=data, seed=0):
        for batch in chain.batches(data):
            found = chain.loss(model(batch["pixel_values"]), batch["labels"]).item()
            chain.step()
    assert teacher.seen == [{"pixel_values", "attention_mask"}]
    assert found == pytest.approx(kl(model(x), teacher.inner(x) * 0.5).mean().item(), rel=1e-4)


def test_any_callable_that_returns_logits_or_an_object_with_logits_teaches():
    x, _ = columns(7, DOUBLE)
    wanted = kl(net(dtype=DOUBLE)(x), 2 * x[:, :4]).mean().item()
    for teacher in (lambda x: 2 * x[:, :4], lambda x: types.SimpleNamespace(logits=2 * x[:, :4])):
        found = losses_of(Distill(teacher, source="forward", weight=[1.0, 1.0]), total=1)[0]
        assert found == pytest.approx(wanted, rel=1e-6)


def test_recorded_mse_is_centred_because_records_know_logits_up_to_a_constant(tmp_path):
    store, data = Store(tmp_path / "runs"), Rows(*columns(9))
    run = recorded(store, data)
    model, values = nn.Linear(1, 1), []
    s = torch.randn(9, CLASSES, generator=torch.Generator().manual_seed(4))
    for shift in (0.0, 7.0):
        chain = Methods(Distill(run, weight=[1.0, 1.0], loss="mse"))
        with chain.attach(model, still(model), duration="1ep", data=data, seed=0):
            for _, y in chain.batches(data):
                values.append(chain.loss(s + shift, y).item())
    rows = run.records().rows(torch.arange(9))[0]
    wanted = ((s - s.mean(1, keepdim=True)) - (rows - rows.mean(1, keepdim=True))).square().mean()
    assert values == pytest.approx([wanted.item()] * 2, rel=1e-4)


def test_the_recorded_target_is_the_softmax_of_the_rows(tmp_path):
    store, data = Store(tmp_path / "runs"), Rows(*columns())
    run = recorded(store, data)
    found = implied(Distill(run, weight=[1.0, 1.0]), loader=data)
    rows, known = run.records().rows(torch.arange(45))
    assert bool(known.all())
    assert torch.allclose(torch.stack([found[i] for i in range(45)]), rows.softmax(1), atol=2e-5)
