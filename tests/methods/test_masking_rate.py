"""MaskingRate."""

from __future__ import annotations

import functools

import pytest
import torch

from reinvest.core.batch import Batch
from reinvest.core.chain import Methods
from reinvest.core.errors import InvalidValue
from reinvest.core.recipe import Recipe
from reinvest.core.streams import example_integers
from reinvest.core.view import TaskView
from reinvest.loop.train import train
from reinvest.methods.augment.masking_rate import MaskingRate, hide_tokens, masking_rate, original_tokens
from reinvest.store import Store
from reinvest.testbed.tasks.books import books
from reinvest.testbed.tasks.tokens import MASK, PAD, SPECIALS
from reinvest.testbed.tasks.windows import mask_tokens, masked_count
from reinvest.testing import Setup

IDS = torch.arange(500)
TOKENS = example_integers(0, "tokens", 0, IDS, 56, 40) + 2
HIDE = functools.partial(hide_tokens, vocabulary=58, mask=1, specials=(0, 1))


def draws(ids=IDS, seed=0, epoch=0, length=40):
    return lambda name, high: example_integers(seed, name, epoch, ids, high, length)


class Loader(list):
    def __init__(self, classes):
        super().__init__([0])
        self.view = TaskView(classes=classes)


def at(method, progress, x, y, ids=None, *, classes=58, seed=0):
    setup = Setup()
    model = setup.model()
    chain = Methods(method)
    chain.reports = False
    with chain.attach(model, setup.optimizer(model), duration="1000st", data=Loader(classes), seed=seed):
        chain.context.step, chain.context.epoch = round(1000 * progress), 0
        return method.augment(Batch(x, y, ids, (x, y)), chain.context)


def text(folder):
    for name, count in (("train", 4200), ("valid", 700), ("test", 700)):
        (folder / f"{name}.txt").write_text("the quick brown fox jumps over the lazy dog " * (count // 44 + 1))


def test_the_rate_falls_on_a_line_with_the_middle_as_mean():
    assert [masking_rate(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.3, 0.225, 0.15])
    assert sum(masking_rate(k / 1000) for k in range(1001)) / 1001 == pytest.approx(0.225)
    for progress in (0.0, 0.5, 0.9):
        x, y = HIDE(TOKENS, 0.15, draws())
        found = at(MaskingRate(), progress, x, y)
        count = round(masking_rate(progress) * 40)
        assert bool(((found.targets != -100).sum(1) == count).all())


def test_the_text_is_read_off_the_batch():
    x, y = mask_tokens(TOKENS, IDS, seed=1, epoch=2, size=58)
    assert not torch.equal(x, TOKENS) and torch.equal(original_tokens(x, y), TOKENS)
    found = at(MaskingRate(0.5, 0.2), 0.3, x, y, IDS)
    assert torch.equal(original_tokens(found.inputs, found.targets), TOKENS)
    again = at(MaskingRate(0.5, 0.2), 0.3, *HIDE(TOKENS, 0.9, draws(seed=7)), IDS)
    assert torch.equal(again.inputs, found.inputs), "new masks depend on the text, not on the masks before"


def test_the_defaults_are_the_packages_vocabulary():
    method = MaskingRate()
    assert method.mask == MASK and method.specials == (PAD, MASK) == tuple(range(SPECIALS))


def test_every_row_has_the_share_rounded_as_the_task_rounds():
    for length in range(1, 60):
        tokens = torch.full((2, length), 5)
        _, y = HIDE(tokens, 0.15, draws(IDS[:2], length=length))
        assert (y != -100).sum(1).tolist() == [masked_count(length)] * 2


def test_eight_one_one():
    x, y = HIDE(TOKENS, 0.5, draws())
    chosen = y != -100
    assert int(chosen.sum()) == 500 * 20 and torch.equal(x[~chosen], TOKENS[~chosen])
    hidden, kept = (x == 1) & chosen, (x == TOKENS) & chosen
    replaced = chosen & ~hidden & ~kept
    # One in 56 of the replaced tokens is the token itself.
    wanted = torch.tensor([0.8, 0.1 + 0.1 / 56, 0.1 * 55 / 56]) * 10_000
    counts = torch.tensor([int(hidden.sum()), int(kept.sum()), int(replaced.sum())]).float()
    assert float(((counts - wanted) ** 2 / wanted).sum()) < 13.9  # chi-square, 2 degrees of freedom, 99.9 %
    shown = torch.bincount(x[replaced], minlength=58)
    assert shown[:2].tolist() == [0, 0] and len(shown) == 58 and bool((shown[2:] > 0).all())


def test_places_are_chosen_equally_often():
    _, y = HIDE(TOKENS, 0.25, draws())
    counts = (y != -100).sum(0).float()
    assert float(((counts - 125) ** 2 / (125 * 0.75)).sum()) < 72.1  # chi-square, 39 degrees of freedom, 99.9 %


def test_special_tokens_are_neither_chosen_nor_put_in():
    tokens = TOKENS.clone()
    tokens[:, 30:] = 0
    tokens[:, 0] = 57
    tokens[7] = 0
    x, y = hide_tokens(tokens, 0.9, draws(), vocabulary=58, mask=20, specials=(57, 0, 20))
    normal = (tokens != 0) & (tokens != 57) & (tokens != 20)
    assert bool((y[~normal] == -100).all()) and torch.equal(x[~normal], tokens[~normal])
    count = torch.round(normal.sum(1) * 0.9)
    assert torch.equal((y != -100).sum(1), count.long())
    assert int((y[7] != -100).sum()) == 0, "a row of special tokens has nothing to predict"
    replaced = (y != -100) & (x != 20) & (x != tokens)
    assert not {0, 20, 57} & set(x[replaced].tolist()) and int(x[replaced].max()) == 56


def test_masks_belong_to_the_example_and_the_epoch():
    x, y = HIDE(TOKENS, 0.15, draws())
    whole = at(MaskingRate(), 0.2, x[:6], y[:6], IDS[:6]).inputs
    alone = torch.cat([at(MaskingRate(), 0.2, x[k : k + 1], y[k : k + 1], IDS[k : k + 1]).inputs for k in range(6)])
    assert torch.equal(whole, alone)
    assert not torch.equal(whole, at(MaskingRate(), 0.2, x[:6], y[:6], IDS[:6], seed=1).inputs)
    assert not torch.equal(whole, at(MaskingRate(), 0.2, x[:6], y[:6], IDS[6:12]).inputs)


def test_more_is_hidden_where_the_rate_is_higher_and_it_stays_hidden_before():
    """One order of places an epoch: a lower rate hides a part of what a higher one hides."""
    few, many = (HIDE(TOKENS, rate, draws())[1] != -100 for rate in (0.15, 0.3))
    assert bool((many | ~few).all()) and int(many.sum()) == 2 * int(few.sum())


def test_what_is_no_masked_batch_is_refused():
    causal = TOKENS[:, :-1], TOKENS[:, 1:]
    with pytest.raises(InvalidValue, match="neither hidden"):
        at(MaskingRate(), 0.0, *causal)
    x, y = HIDE(TOKENS, 0.15, draws())
    with pytest.raises(InvalidValue, match="hidden tokens without target"):
        at(MaskingRate(), 0.0, x, y.masked_fill(torch.arange(40) < 20, -100))
    with pytest.raises(InvalidValue, match="pass its mask="):
        at(MaskingRate(mask=5), 0.0, x, y)
    for inputs, targets in ((TOKENS, IDS), (TOKENS.float(), y), (TOKENS, y.float()), (TOKENS, None)):
        with pytest.raises(InvalidValue, match="whole numbers"):
            at(MaskingRate(), 0.0, inputs, targets)
    with pytest.raises(InvalidValue, match="pass vocabulary="):
        at(MaskingRate(), 0.0, x, y, classes=None)
    with pytest.raises(InvalidValue, match="numbers of tokens"):
        MaskingRate(specials=[0.5])
    assert at(MaskingRate(vocabulary=58), 0.0, x, y, classes=None).inputs.shape == x.shape


def test_batches_of_few_targets_are_judged_together():
    """One of ten targets is shown as another token, so a batch with one or two of them says nothing."""
    setup, refused = Setup(), []
    model = setup.model()
    with Methods().attach(model, setup.optimizer(model), duration="9st", data=Loader(58), seed=0) as chain:
        context = chain.context
        context.epoch = 0
        for seed in range(300):
            method, tokens = MaskingRate(), TOKENS[seed : seed + 1, :16]
            method.start(context)
            x, y = HIDE(tokens, 0.15, draws(IDS[:1], seed, length=16))
            assert 1 <= int((y != -100).sum()) <= 3
            assert torch.equal(original_tokens(*batched(method, x, y, context)), tokens)
            with pytest.raises(InvalidValue, match="1 hidden tokens without target"):
                lost = (y != -100).nonzero()[:1]
                batched(
                    method,
                    x.index_put(tuple(lost.T), torch.tensor(1)),
                    y.index_put(tuple(lost.T), torch.tensor(-100)),
                    context,
                )
        method = MaskingRate()
        method.start(context)
        for row in range(10):
            try:
                batched(method, TOKENS[row : row + 1, :15], TOKENS[row : row + 1, 1:16], context)
            except InvalidValue as error:
                refused.append((row, str(error)))
                break
    assert refused[0][0] == 3 and "of 60 targets that are neither hidden" in refused[0][1]


def batched(method, x, y, context):
    found = method.augment(Batch(x, y, None, (x, y)), context)
    return found.inputs, found.targets


def test_the_packages_masked_task_trains_and_is_evaluated_at_its_own_rate(tmp_path):
    text(tmp_path)
    task = books(folder=tmp_path, length=40, objective="masked")
    ids, x, y = next(iter(task.loader("train", 8)))
    found = at(MaskingRate(0.5, 0.2), 0.0, x, y, ids, classes=task.classes)
    assert bool(((found.targets != -100).sum(1) == 20).all()) and bool(((y != -100).sum(1) == 6).all())
    assert torch.equal(original_tokens(found.inputs, found.targets), original_tokens(x, y))
    recipe = Recipe(
        task={"name": "books", "folder": str(tmp_path), "length": 40, "objective": "masked"},
        model={"name": "bert", "width": 8, "layers": 1, "heads": 2},
        duration="1ep",
        batch_size=16,
        optimizer={"name": "sgd", "lr": 0.1},
        schedule="constant",
        methods=(MaskingRate(0.5, 0.2),),
    )
    run = train(recipe, 0, Store(tmp_path / "runs"), device="cpu", progress=False)
    assert run.status == "finished"
