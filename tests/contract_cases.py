"""One row a method: arguments that must be refused, and a hand-written loop that uses its plain functions."""

from __future__ import annotations

import functools
from typing import Any

import contract_augment
import contract_gradients
import contract_losses
import contract_select
import contract_surgery
import contract_targets
import contract_weights
from contract_setups import CONTRACTS
from reinvest._testing.pair import run_pair
from reinvest.methods._catalog import catalog
from reinvest.testing import MethodContract

CASES = (
    contract_select.CASES
    | contract_augment.CASES
    | contract_targets.CASES
    | contract_losses.CASES
    | contract_gradients.CASES
    | contract_weights.CASES
    | contract_surgery.CASES
)


@functools.lru_cache(maxsize=1)
def pair_of_all() -> dict[str, list[dict[str, Any]]]:
    """Every method's results on two processes; one pair of them runs all methods."""
    setups = [CONTRACTS.get(name, MethodContract).setup.plain() for name in catalog]
    found = run_pair([(m, CASES[n].acting(m)) for n, m in catalog.items()], setups)
    return dict(zip(catalog, found, strict=True))
