"""Probes of an own loop reach the records, and whoever would begin with that model's weights is told."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import reinvest as ri
from reinvest.dynamics.probes import Probed, choose_probes
from reinvest.dynamics.trajectories import Trajectories
from reinvest.reuse.fit import ReuseWarning


def trained(
    store: ri.Store, probed: bool, methods: ri.Methods, model: nn.Module | None = None
) -> tuple[object, nn.Module]:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 4, generator=draw), torch.arange(60) % 3
    probes = choose_probes(y, ["as it is", "random label"], 5)
    data = Probed(TensorDataset(x, y), probes) if probed else TensorDataset(x, y)
    loader = DataLoader(ri.Indexed(data, name="own"), batch_size=20)
    model = nn.Linear(4, 3) if model is None else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        store.record("own", task="own", config={"probed": probed, "methods": repr(methods)}) as writer,
        methods.attach(model, optimizer, duration="2ep", data=loader, seed=0),
    ):
        for _ in range(2):
            for a, b in methods.batches(loader):
                methods.loss(model(a), b).backward()
                methods.step()
        writer.save_weights(model.state_dict())
    return writer.run, model


def test_probes_of_a_data_set_are_in_the_records(tmp_path: Path) -> None:
    run, _ = trained(ri.Store(tmp_path), True, ri.Methods())
    found = Trajectories.of(run)
    assert found.probes is not None and found.probes.names == ("as it is", "random label") and len(found.probes) == 20
    assert found.labels is not None and torch.equal(found.labels[found.probes.ids], found.probes.labels)
    assert Trajectories.of(trained(ri.Store(tmp_path), False, ri.Methods())[0]).probes is None


def test_beginning_with_a_probed_model_warns(tmp_path: Path) -> None:
    store = ri.Store(tmp_path)
    probed, _ = trained(store, True, ri.Methods())
    plain, _ = trained(store, False, ri.Methods())
    with pytest.warns(ReuseWarning, match=r"trained with planted probes .*, got run .*; take one"):
        child, _ = trained(store, False, ri.Methods(ri.WarmStart(probed)))
    with pytest.warns(ReuseWarning, match=r"got run .*, whose weights come from run .*, to begin with"):
        trained(store, False, ri.Methods(ri.WarmStart(child)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ReuseWarning)
        warnings.filterwarnings("ignore", message=".*cannot be checked.*")
        trained(store, False, ri.Methods(ri.WarmStart(plain)))
