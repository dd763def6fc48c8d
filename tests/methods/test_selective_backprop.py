"""Selective backprop."""

from __future__ import annotations

import copy
import pickle
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reinvest._testing.compare import differences
from reinvest.core.batch import Batch
from reinvest.core.chain import Methods
from reinvest.core.errors import InvalidValue
from reinvest.core.streams import stream
from reinvest.methods.select.curriculum import Curriculum
from reinvest.methods.select.selective_backprop import SelectiveBackprop, kept_count, looking, select_by_loss
from reinvest.testing import Setup

ALWAYS = {"start": 0.0, "end": 1.0, "period": 0}


def steps(method, *, total=12, model=None, x=None, y=None, criterion=None):
    """One chain over `total` steps of one batch; yields (chain, inputs, targets) of each step."""
    setup = Setup(batch_norm=True)
    model = setup.model() if model is None else model
    if x is None:
        x, y = (t[:16] for t in setup.data())
    loader = [(x, y)] * total
    chain = Methods(method)
    extra = {} if criterion is None else {"criterion": criterion}
    with chain.attach(model, torch.optim.SGD(model.parameters(), lr=0.1), duration="1ep", data=loader, seed=1, **extra):
        for inputs, targets in chain.batches(loader):
            yield chain, inputs, targets
            chain.loss(model(inputs), targets).backward()
            chain.step()


def test_counts_are_exact():
    assert [kept_count(n, k) for n, k in ((128, 0.5), (100, 0.29), (10, 0.3), (3, 0.5), (7, 1.0))] == [64, 29, 3, 1, 7]
    with pytest.raises(InvalidValue, match="at least one"):
        kept_count(3, 0.3)
    losses = torch.linspace(0, 1, 100)
    for step in range(20):
        rows = select_by_loss(losses, 0.29, stream(0, "s", 0, step))
        assert len(rows) == 29 and len(set(rows.tolist())) == 29 and rows.tolist() == sorted(rows.tolist())


def test_keeping_all_is_the_identity():
    assert torch.equal(select_by_loss(torch.randn(9), 1.0, stream(0, "s", 0)), torch.arange(9))
    method = SelectiveBackprop(keep=1.0, **ALWAYS)
    x, y = Setup().data()
    batch = Batch(x, y, None, (x, y))
    for chain, _, _ in steps(method, total=1):
        assert method.select(batch, chain.context) is batch


@pytest.mark.parametrize("keep", [0.25, 0.5, 0.8])
def test_inclusion_follows_the_law_of_loss_rank(keep):
    """Against a simulation of the published law: weighted draws without replacement, weight u^(1/keep - 1)."""
    size, trials = 20, 4000
    losses = torch.linspace(3, 0, size)
    found = np.zeros(size)
    for step in range(trials):
        found[select_by_loss(losses, keep, stream(2, "law", 0, step)).numpy()] += 1
    found = found[::-1] / trials
    weights = ((np.arange(size) + 0.5) / size) ** (1 / keep - 1)
    generator = np.random.default_rng(0)
    wanted = np.zeros(size)
    for _ in range(trials):
        wanted[generator.choice(size, kept_count(size, keep), replace=False, p=weights / weights.sum())] += 1
    wanted /= trials
    assert found.sum() == pytest.approx(kept_count(size, keep))
    assert np.abs(found - wanted).max() < 4 * np.sqrt(2 * 0.25 / trials)
    assert np.corrcoef(found, np.arange(size))[0, 1] > 0.7


class Awkward(nn.Module):
    """Counts its calls in a buffer, draws from the global generator in any mode, and keeps a part in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.frozen = nn.BatchNorm2d(4)
        self.frozen.eval()
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x):
        self.calls += 1
        self.seen.append((*x.shape[-2:], self.training, torch.is_grad_enabled()))
        x = self.dropout(self.frozen(self.norm(self.conv(x))))
        return (x + 0 * torch.rand(1)).mean((2, 3))


def test_scoring_leaves_no_trace():
    """The scoring pass of a well-known implementation updated batch norm's statistics, at the wrong resolution."""
    model = Awkward()
    method = SelectiveBackprop(keep=0.5, scale=0.5, **ALWAYS)
    modes = {n: m.training for n, m in model.named_modules()}
    before = {n: b.clone() for n, b in model.named_buffers()}
    torch.manual_seed(4)
    state = torch.get_rng_state()
    for _, inputs, _ in steps(method, total=1, model=model):
        assert len(inputs) == 8 and inputs.shape[-1] == 8, "trains on full size"
        assert model.seen == [(4, 4, False, False)], "scores small, in eval mode, without gradients"
        assert differences(dict(model.named_buffers()), before) == []
        assert {n: m.training for n, m in model.named_modules()} == modes
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.is_grad_enabled()


def test_scoring_that_fails_leaves_no_trace_either():
    model = Awkward()
    with pytest.raises(RuntimeError), looking(model):
        model(torch.zeros(1, 5, 4, 4))
    assert model.training and int(model.calls) == 0 and torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("period", "pattern"), [(2, "SPSPSPSPSPSP"), (3, "SSPSSPSSPSSP"), (4, "SSSPSSSPSSSP"), (0, "S" * 12)]
)
def test_every_period_th_step_is_plain(period, pattern):
    """A well-known implementation documents one plain batch after two and alternates instead."""
    method = SelectiveBackprop(0.0, 1.0, keep=0.5, period=period)
    sizes, kinds = [], []
    for chain, inputs, _ in steps(method):
        sizes.append("S" if len(inputs) == 8 else "P")
        kinds.append(method.kind(chain.context)[0].upper())
    assert "".join(sizes) == pattern == "".join(kinds)


def test_selection_keeps_to_its_window():
    method = SelectiveBackprop(0.25, 0.75, keep=0.5, period=0)
    sizes = [len(inputs) for _, inputs, _ in steps(method)]
    assert sizes == [16] * 3 + [8] * 6 + [16] * 3


def test_high_losses_are_kept_wrong_labels_among_them():
    setup = Setup(examples=512)
    model = setup.model()
    x, y = setup.data()
    wrong = torch.zeros(512, dtype=torch.bool)
    with torch.no_grad():
        model.eval()
        output = model(x)
        y = output.argmax(1)
        wrong[::5] = True
        y[wrong] = output[wrong].argmin(1)
    method = SelectiveBackprop(keep=0.25, scale=1.0, **ALWAYS)
    for chain, inputs, targets in steps(method, total=1, model=model, x=x, y=y):
        kept = chain._now.batch
        assert len(kept) == 128
        with torch.no_grad():
            losses = F.cross_entropy(output, y, reduction="none")
            of_kept = F.cross_entropy(model(inputs), targets, reduction="none")
        assert float(of_kept.mean()) > float(losses.mean())
        share = np.mean([bool((inputs == bad).flatten(1).all(1).any()) for bad in x[wrong]])
        assert share > 0.4, "far above the quarter that chance would keep"


def test_batches_that_are_dicts_and_models_that_return_objects():
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Setup().model()

        def forward(self, pixel_values, mask):
            assert mask.shape == (16, 2)
            return types.SimpleNamespace(logits=self.inner(pixel_values))

    model = Wrapped()
    x, y = (t[:16] for t in Setup().data())
    loader = [{"pixel_values": x, "labels": y, "mask": torch.ones(16, 2)}]
    chain = Methods(SelectiveBackprop(keep=0.5, **ALWAYS))
    with chain.attach(model, torch.optim.SGD(model.parameters(), lr=0.1), duration="1ep", data=loader, seed=1):
        for batch in chain.batches(loader):
            assert {k: len(v) for k, v in batch.items()} == {"pixel_values": 8, "labels": 8, "mask": 8}
            chain.loss(model.inner(batch["pixel_values"]), batch["labels"]).backward()
            chain.step()


def sizes_of(*methods, batches, epochs=4, stop=None):
    """Examples in each step's batch, for batches of these sizes with ids; resumed after `stop` steps."""
    setup, sizes, kept = Setup(examples=64), [], None
    loader = Told(zip(*(t[: sum(batches)].split(batches) for t in (torch.arange(64), *setup.data())), strict=True))
    model = setup.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for until in (stop, None) if stop else (None,):
        chain = Methods(*methods)
        with chain.attach(model, optimizer, duration=f"{epochs}ep", data=loader, seed=1):
            if kept is not None:
                chain.load_state_dict(kept)
            while chain.context.step < (until or chain.context.total_steps):
                for x, y in chain.batches(loader):
                    sizes.append(len(y))
                    chain.loss(model(x), y).backward()
                    chain.step()
                    if chain.context.step == until:
                        break
            kept = chain.state_dict()
    return sizes


class Told(list):
    """A loader that says that it yields ids."""

    indexed, examples = True, 64


@pytest.mark.parametrize("keep", [0.5, 0.1])
@pytest.mark.parametrize("last", [1, 2, 9])
def test_a_short_last_batch_keeps_at_least_one_example_and_does_not_end_the_run(keep, last):
    method = SelectiveBackprop(0.5, 1.0, keep=keep, period=0)
    half = [max(1, int(keep * 20)), max(1, int(keep * 20)), max(1, int(keep * last))]
    assert sizes_of(method, batches=[20, 20, last]) == [20, 20, last] * 2 + half * 2
    for at in (5, 8):
        assert sizes_of(method, batches=[20, 20, last], stop=at) == [20, 20, last] * 2 + half * 2


def test_what_a_curriculum_leaves_of_a_batch_may_be_a_single_example():
    curriculum = Curriculum(scores=[i / 64 for i in range(64)], start=0.05, until=0.9, direction="easy first")
    sizes = sizes_of(curriculum, SelectiveBackprop(keep=0.1, **ALWAYS), batches=[16] * 4, epochs=2)
    assert len(sizes) == 8 and set(sizes) == {1}


def test_a_share_of_a_full_batch_that_is_no_example_is_refused_when_the_run_begins():
    late = SelectiveBackprop(0.5, 1.0, keep=0.05, period=0)
    found = []
    with pytest.raises(InvalidValue, match=r"at least one example, got keep=0\.05 of 16"):
        found.extend(len(x) for _, x, _ in steps(late))
    assert found == []


class Watched(nn.Module):
    """Writes down (training, autocast, dtype of its logits) at each call."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.seen: list[tuple[bool, bool, torch.dtype]] = []

    def forward(self, x):
        found = self.conv(x).mean((2, 3))
        self.seen.append((self.training, torch.is_autocast_enabled("cpu"), found.dtype))
        return found


LOW = torch.bfloat16


def whole_precision(output, target):
    assert output.dtype == torch.float32, "ranks of coarse losses would be ties"
    return F.cross_entropy(output, target, reduction="none")


def precisely(model, chain, loader, precisions, kept=None):
    """One epoch of a loop that computes in these precisions; the state at its end."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with chain.attach(model, optimizer, duration="9ep", data=loader, seed=1, criterion=whole_precision):
        if kept is not None:
            chain.load_state_dict(kept)
        for (x, y), low in zip(chain.batches(loader), precisions, strict=True):
            with torch.autocast("cpu", LOW, enabled=low):
                output = model(x)
            chain.loss(output.float(), y).backward()
            assert all(bool(p.grad.any()) for p in model.parameters())
            chain.step()
        return chain.state_dict()


def scored(model):
    return [low for training, low, _ in model.seen if not training]


def test_scores_are_computed_in_the_precision_of_the_training_passes(tmp_path):
    """`batches` runs outside the loop's own `with autocast`, so what the model was last trained in is noted."""
    x, y = (t[:16] for t in Setup().data())
    model, chain, loader = Watched(), Methods(SelectiveBackprop(keep=0.5, **ALWAYS)), [(x, y)] * 4
    kept = precisely(model, chain, loader, [True, True, False, True])
    assert scored(model) == [False, True, True, False], "the first batch is scored before any training pass"
    assert [dtype for training, low, dtype in model.seen if low] == [LOW] * 5
    assert not model._forward_pre_hooks
    torch.save(kept, tmp_path / "state.pt")
    model.seen.clear()
    precisely(model, chain, loader, [True] * 4, torch.load(tmp_path / "state.pt", weights_only=True))
    assert scored(model) == [True] * 4, "a resumed run goes on as it was"


def test_a_compiled_model_tells_its_precision_too():
    model, method, x = nn.Conv2d(3, 4, 3), SelectiveBackprop(keep=0.5, **ALWAYS), torch.randn(2, 3, 8, 8)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)  # a break of the graph would raise
    optimizer, chain = torch.optim.SGD(model.parameters(), lr=0.1), Methods(method)
    chain.reports = False
    with chain.attach(compiled, optimizer, duration="9st", data=[0], seed=1):
        again = pickle.loads(pickle.dumps(copy.deepcopy(model)))
        assert torch.equal(again(x), model(x))
        for low in (True, False, True):
            with torch.autocast("cpu", LOW, enabled=low):
                compiled(x)
            assert method.state_dict()["autocast"] == [low, "bfloat16"]
        model.eval()
        compiled(x)
        assert method.state_dict()["autocast"] == [True, "bfloat16"]
    assert not model._forward_pre_hooks


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_pictures_are_scored_on_a_cpu_too(dtype):
    class Whole(nn.Conv2d):
        def forward(self, x):
            assert x.dtype == dtype
            return super().forward(x.float()).mean((2, 3))

    x, y = torch.rand(16, 3, 8, 8).to(dtype), torch.arange(16) % 4
    sizes = [
        len(t) for _, _, t in steps(SelectiveBackprop(keep=0.5, **ALWAYS), model=Whole(3, 4, 1), x=x, y=y, total=2)
    ]
    assert sizes == [8, 8]


def test_what_it_cannot_score_is_refused():
    flat = {"x": torch.zeros(16, 4), "y": torch.zeros(16, dtype=torch.long)}
    linear = nn.Linear(4, 3)
    with pytest.raises(InvalidValue, match=r"set scale=1\.0"):
        next(steps(SelectiveBackprop(keep=0.5, **ALWAYS), model=linear, **flat))
    assert len(next(steps(SelectiveBackprop(keep=0.5, scale=1.0, **ALWAYS), model=linear, **flat))[1]) == 8
    pictures, maps = torch.zeros(16, 3, 8, 8), torch.zeros(16, 8, 8, dtype=torch.long)
    conv = nn.Conv2d(3, 2, 1)
    with pytest.raises(InvalidValue, match=r"label maps \[16, 8, 8\] .*set scale=1\.0"):
        next(steps(SelectiveBackprop(), model=conv, x=pictures, y=maps))
    full = SelectiveBackprop(keep=0.5, scale=1.0, **ALWAYS)
    assert len(next(steps(full, model=conv, x=pictures, y=maps))[2]) == 8
    with pytest.raises(InvalidValue, match="one loss per example"):
        next(steps(SelectiveBackprop(keep=0.5, **ALWAYS), criterion=nn.CrossEntropyLoss()))
    with pytest.raises(InvalidValue, match="at least one"):
        next(steps(SelectiveBackprop(keep=0.01, **ALWAYS)))
    with pytest.raises(InvalidValue, match=r"\[B\]"):
        select_by_loss(torch.zeros(3, 2), 0.5, stream(0, "s", 0))
    with pytest.raises(InvalidValue, match="keep"):
        select_by_loss(torch.zeros(3), 0.0, stream(0, "s", 0))
