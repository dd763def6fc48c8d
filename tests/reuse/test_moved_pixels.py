"""Label maps that were cut lie elsewhere than on the stored picture: they are not recorded, and records do not teach them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import reinvest as ri
from reinvest.core.batch import Batch
from reinvest.core.errors import InvalidValue, StoreError

SIZE = 8


class Maps(torch.utils.data.Dataset):
    """Pictures [3, 8, 8] whose label map [8, 8] tells where the first channel is positive."""

    def __init__(self, count=12):
        self.x = torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.x)

    def __getitem__(self, k):
        return self.x[k], (self.x[k, 0] > 0).long()


def trained(store, name, *methods):
    """A recorded run of two epochs over the maps."""
    torch.manual_seed(0)
    model = nn.Conv2d(3, 2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = torch.utils.data.DataLoader(ri.Indexed(Maps(), name="maps"), batch_size=6)
    chain = ri.Methods(*methods)
    with (
        store.record(name, task="maps", seed=0) as run,
        chain.attach(model, optimizer, duration="2ep", data=loader, seed=0),
    ):
        for _ in range(2):
            for x, y in chain.batches(loader):
                chain.loss(model(x), y).backward()
                chain.step()
    return run.run


@pytest.fixture
def store(tmp_path):
    return ri.Store(tmp_path / "runs")


def test_moved_maps_are_not_recorded(store):
    assert trained(store, "plain").records().has_rows
    for method in (ri.ColOut(0.3, 0.3), ri.StripCut(0.5, multiple=1, switch=1.0, finetune=0.0)):
        records = trained(store, method.name, method).records()
        assert records.loss.isnan().all() and records.correct.isnan().all()
        with pytest.raises(StoreError, match="all examples were blended or moved"):
            records.rows(torch.tensor([0]))


def test_records_do_not_teach_moved_maps(store):
    past = trained(store, "plain")
    with pytest.raises(InvalidValue, match="label maps that were cut or shifted; leave that method out"):
        trained(store, "student", ri.ColOut(0.3, 0.3), ri.Distill(past, source="records"))


def test_a_part_of_a_moved_batch_is_moved():
    batch = Batch(torch.zeros(4, 3, 2, 2), torch.zeros(4, 2, 2), None, (torch.zeros(4),), None, True)
    assert batch.take(slice(0, 2)).moved and batch.with_inputs(batch.inputs + 1).moved
