"""Makes fake_runs and advising importable whatever pytest's import mode; and a store of two runs for advice."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from advising import run_of

from advised import changed, copied, recipe, scored, trained
from reinvest.store import Store


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two runs of one recipe, seeds 0 and 1; not to be changed."""
    store = Store(tmp_path_factory.mktemp("planted"))
    trained(store, recipe(), 0)
    trained(store, recipe(), 1)
    return store


@pytest.fixture
def store(planted: Store, tmp_path: Path) -> Store:
    """A copy of `planted` to change, with the qualities set: seed 0 has the better validation."""
    made = copied(planted, tmp_path / "runs")
    for seed, validation in ((0, 0.8), (1, 0.7)):
        changed(made, run_of(made, seed), scored(validation, 0.5))
    return made
