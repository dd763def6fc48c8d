"""Identities never change: a store full of runs must still be found by a later version. Nothing is computed here."""

from __future__ import annotations

import pytest

from reinvest.core.recipe import Recipe, identity

LAYOUT = [("0.weight", (10, 64), "float32"), ("0.bias", (10,), "float32")]
FROZEN = [
    (Recipe(task="digits", model="mlp"), 0, (), "41da35d19f24f59b467aa4d59db94c3d"),
    (
        Recipe(
            task={"name": "digits", "train_examples": 500},
            model={"name": "convnet", "width": 8},
            duration="300st",
            batch_size=64,
            optimizer={"name": "adamw", "lr": 0.001},
            schedule="one_cycle",
            precision="bf16",
        ),
        7,
        (),
        "58f0ce976c09c13bd0de657a6accfb5b",
    ),
    (
        Recipe(
            task="cifar10",
            model="resnet20",
            duration="2.5ep",
            methods=[{"name": "LabelSmoothing", "alpha": 0.2}, "EMA", {"name": "SAM", "rho": 0.1}],
        ),
        1,
        ("run-a", "run-b"),
        # Changes when, and only when, one of these methods gets a new revision: LabelSmoothing 2, EMA 2, SAM 1.
        "724203c359ea17e27c803f96dd1816ea",
    ),
]


@pytest.mark.parametrize(("recipe", "seed", "parents", "expected"), FROZEN)
def test_identities_are_frozen(recipe: Recipe, seed: int, parents: tuple[str, ...], expected: str) -> None:
    assert identity(recipe, seed, fingerprint="0123456789abcdef", layout=LAYOUT, parents=parents) == expected
