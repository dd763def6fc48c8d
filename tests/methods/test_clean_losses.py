"""CleanLosses: what it keeps is what evaluation would say at the end of each epoch; training does not notice."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import reinvest as ri
from reinvest.core.criterion import cross_entropy
from reinvest.core.errors import InvalidValue, MissingIds, StoreError
from reinvest.dynamics.trajectories import Trajectories
from reinvest.evaluation.timing import timing_block
from reinvest.loop.session import build_model, build_task
from reinvest.methods.losses.clean_losses import _losses_of

EPOCHS = 3


@pytest.fixture(scope="module")
def runs(tmp_path_factory: Any) -> dict[str, Any]:
    """The same training without and with it."""
    store = ri.Store(tmp_path_factory.mktemp("clean"))
    recipe = ri.Recipe(
        task={"name": "digits", "augment": "crop-flip"}, model="convnet", duration=f"{EPOCHS}ep", batch_size=64
    )
    found = {"plain": ri.train(recipe, 0, store), "watched": ri.train(recipe.with_("CleanLosses"), 0, store)}
    return found | {"second": ri.train(recipe.with_({"name": "CleanLosses", "every": 2}), 0, store)}


def test_training_does_not_notice(runs: dict[str, Any]) -> None:
    plain = runs["plain"].weights()
    for name in ("watched", "second"):
        other = runs[name].weights()
        assert all(torch.equal(plain[k], other[k]) for k in plain)
        assert torch.equal(runs["plain"].records().loss.nan_to_num(9), runs[name].records().loss.nan_to_num(9))


def test_the_last_look_is_the_stored_model_on_plain_pictures(runs: dict[str, Any]) -> None:
    run = runs["watched"]
    recipe = ri.Recipe.from_dict(run.config) if hasattr(ri.Recipe, "from_dict") else ri.Recipe(**run.config)
    task = build_task(recipe)
    model = build_model(recipe, task, 0)
    model.load_state_dict(run.weights())
    model.eval()
    t = Trajectories.of(run)
    assert t.source == "clean pass" and t.epochs == EPOCHS
    for ids, x, y in task.clean(256):
        with torch.no_grad():
            output = model(x)
        loss = torch.nn.functional.cross_entropy(output, y, reduction="none")
        assert torch.allclose(t.rows(ids)[:, -1], loss, rtol=2**-10, atol=1e-6)
        assert torch.equal(t.rows(ids, "predicted")[:, -1].long(), output.argmax(1))
        assert torch.equal(t.rows(ids, "correct")[:, -1], output.argmax(1).eq(y).float())
        assert torch.equal(t.rows(ids, "margin")[:, -1] > 0, output.argmax(1).eq(y))


def test_looks_are_those_of_training_examples_alone(runs: dict[str, Any]) -> None:
    task = build_task(ri.Recipe(task="digits", model="convnet"))
    assert torch.equal(Trajectories.of(runs["watched"]).ids, task.splits["train"].sort().values)


def test_every_second_epoch(runs: dict[str, Any]) -> None:
    once, every = Trajectories.of(runs["second"]), Trajectories.of(runs["watched"])
    assert once.epochs == 1 and runs["second"].findings()["CleanLosses"]["epochs"] == [1]
    assert torch.equal(once.loss[:, 0].nan_to_num(9), every.loss[:, 1].nan_to_num(9))


def test_both_sources_can_be_read(runs: dict[str, Any]) -> None:
    training = Trajectories.of(runs["watched"], source="training pass")
    assert training.source == "training pass" and training.epochs == EPOCHS
    assert torch.equal(training.loss.nan_to_num(9), Trajectories.of(runs["plain"]).loss.nan_to_num(9))
    with pytest.raises(StoreError, match="with the method CleanLosses"):
        Trajectories.of(runs["plain"], source="clean pass")


def test_a_run_is_charged_for_its_looks(runs: dict[str, Any]) -> None:
    rows = [row for row in runs["watched"].cost["strata"] if "with a look" in row["kind"]]
    assert sum(row["steps"] for row in rows) == EPOCHS
    plain = [row["seconds_per_step"] for row in runs["plain"].cost["strata"]]
    assert min(row["seconds_per_step"] for row in rows) > min(plain)


class Own(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.Dropout(0.5), torch.nn.Linear(16, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


def own_loop(
    method: Any, store: ri.Store | None = None, criterion: Any = cross_entropy, low: bool = False
) -> tuple[Own, Any]:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 5, generator=draw), torch.randint(0, 3, (40,), generator=draw)
    data = ri.Indexed(TensorDataset(x, y))
    torch.manual_seed(0)
    model = Own()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if method == "clean":
        method = ri.CleanLosses(loader=DataLoader(data, batch_size=16))
    methods = ri.Methods(method) if method is not None else ri.Methods()
    loader = DataLoader(data, batch_size=10, shuffle=True, generator=torch.Generator().manual_seed(1))

    def train() -> None:
        low_precision = torch.autocast("cpu", torch.bfloat16, enabled=low)
        attached = methods.attach(model, optimizer, duration="2ep", data=loader, seed=0, criterion=criterion)
        with attached, low_precision:
            for _ in range(2):
                for a, b in methods.batches(loader):
                    methods.loss(model(a), b).backward()
                    methods.step()
                    optimizer.zero_grad()

    if store is None:
        train()
        return model, None
    with store.record("own", task="own") as writer:
        train()
    return model, writer.run


def test_an_own_loop_passes_its_loader(tmp_path: Path) -> None:
    plain, _ = own_loop(None)
    model, run = own_loop("clean", ri.Store(tmp_path))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), model.parameters(), strict=True))
    t = Trajectories.of(run)
    assert t.source == "clean pass" and t.epochs == 2 and len(t.ids) == 40


@pytest.mark.parametrize(
    ("criterion", "low"),
    [
        (torch.nn.CrossEntropyLoss(reduction="none", label_smoothing=0.3), False),
        (cross_entropy, True),
    ],
)
def test_losses_are_those_of_the_label_in_full_precision(tmp_path: Path, criterion: Any, low: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 5, generator=draw), torch.randint(0, 3, (40,), generator=draw)
    model, run = own_loop("clean", ri.Store(tmp_path), criterion, low)
    model.eval()
    with torch.no_grad():
        p = model(x).softmax(1)[torch.arange(40), y]
    t = Trajectories.of(run)
    torch.testing.assert_close(t.rows(torch.arange(40), "confidence")[:, -1], p, rtol=1e-3, atol=0)


def test_labels_are_known_where_every_batch_was_blended(tmp_path: Path) -> None:
    recipe = ri.Recipe(task="digits", model="convnet", duration="1ep", batch_size=128)
    run = ri.train(recipe.with_("Mixup", "CleanLosses"), 0, ri.Store(tmp_path))
    t, task = Trajectories.of(run), build_task(recipe)
    ids = task.splits["train"]
    _, _, y = next(iter(task.clean(len(ids))))
    assert t.labels is not None and torch.equal(t.labels[ids], y) and int((t.labels >= 0).sum()) == len(ids)
    assert torch.equal(t.rows(ids, "correct"), (t.rows(ids, "margin") > 0).float())


def test_an_example_without_a_label_has_no_loss() -> None:
    output, targets = torch.randn(2, 3, 4), torch.tensor([[0, -100, 1, 2], [-100] * 4])
    context: Any = SimpleNamespace(criterion=cross_entropy)
    for x, y in ((output, targets), (output[:, :, 0], torch.tensor([1, -100]))):
        assert _losses_of(x, y, context).isnan().tolist() == [False, True]


def test_what_cannot_be_looked_at_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"CleanLosses\(loader=\.\.\.\)"):
        own_loop(ri.CleanLosses())
    with pytest.raises(MissingIds, match="Indexed"):
        own_loop(ri.CleanLosses(loader=DataLoader(TensorDataset(torch.rand(4, 5), torch.zeros(4, dtype=torch.int64)))))


def test_a_timing_block_takes_the_looking_step_many_times() -> None:
    """Its steps go beyond the run's last look, which no run does."""
    plain = ri.Recipe(task="digits", model="mlp", duration="2ep", batch_size=512)
    block = timing_block({"plain": plain, "watched": plain.with_("CleanLosses")}, "plain")
    assert block.arms["watched"].seconds_per_step > block.arms["plain"].seconds_per_step
