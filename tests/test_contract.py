"""Every method of the catalogue keeps the contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
import torch._inductor.config
from torch import nn

from contract_cases import CASES, pair_of_all
from contract_setups import CONTRACTS
from reinvest._testing.compare import distance
from reinvest._testing.loops import ChainLoop, Setup
from reinvest.methods._catalog import catalog
from reinvest.testing import MethodContract


def _contract(name: str) -> type[MethodContract]:
    case = CASES[name]

    def two_processes(self):
        return pair_of_all()[name]

    return type(
        f"Test{name}",
        (CONTRACTS.get(name, MethodContract),),
        {
            "method": catalog[name],
            "bad": case.bad,
            "needed": case.needed or {},
            "example": case.example,
            "function_form": case.function_form,
            "two_processes": two_processes,
            "__module__": __name__,
        },
    )


globals().update({f"Test{name}": _contract(name) for name in CASES})


def test_the_table_covers_the_catalogue():
    assert set(CASES) == set(catalog)


def test_names_in_conflicts_exist():
    for method in catalog.values():
        assert set(method.card.conflicts) <= set(catalog)


class Smallest(nn.Module):
    """One strided convolution and a linear layer: little to compile."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.head = nn.Linear(4, classes)

    def forward(self, x):
        return self.head(self.conv(x).relu().mean((2, 3)))


@dataclass(frozen=True)
class Lowered(Setup):
    epochs: int = 1
    batch_size: int = 8

    def model(self) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return Smallest(self.classes)


# One method a phase; the others are traced without being lowered, in the contract. Selection keeps 8 of 16, so that
# all of them share one compiled program but BlurPool, which has its own.
LOWERED = {
    "SelectiveBackprop": (Lowered(batch_size=16), {"start": 0.0, "end": 1.0, "period": 0}),
    "Cutout": (Lowered(), {}),
    "LabelSmoothing": (Lowered(), {}),
    "GradientClipping": (Lowered(), {"norm": 0.01}),
    "EMA": (Lowered(), {"half_life": "3st"}),
    "BlurPool": (Lowered(), {}),
}


def test_inductor_gives_the_same_weights(monkeypatch):
    # No pool of compiler processes: they take longer to start than this takes to compile.
    monkeypatch.setattr(torch._inductor.config, "compile_threads", 1)
    torch._dynamo.reset()
    for name, (setup, arguments) in LOWERED.items():
        eager, compiled = (
            ChainLoop(setup, [catalog[name](**arguments)], backend=backend).run().result()
            for backend in (None, "inductor")
        )
        assert distance(eager, compiled) <= 1e-5, name
    torch._dynamo.reset()


def test_a_broken_method_fails_the_contract():
    """The clauses have teeth: a method that draws from the global generator, and leaves a hook, is found out."""
    from reinvest.core.method import Card, Method

    class Noisy(Method):
        """Adds noise in a way that no method may."""

        card = Card("Noise", "none", 2000, "none", "augment", "nothing", "everything", ("vision",))
        neutral: ClassVar = {"scale": 0.0}
        example: ClassVar = {"scale": 0.1}

        def __init__(self, scale=0.1):
            self.scale = scale

        def start(self, context):
            context.model.register_forward_hook(lambda *_: None)

        def augment(self, batch, context):
            """Noise."""
            return batch.with_inputs(batch.inputs + self.scale * torch.randn_like(batch.inputs))

    contract = type("Broken", (MethodContract,), {"method": Noisy})()
    for clause in (
        contract.test_01_neutral_setting_is_the_plain_loop,
        contract.test_07_draws_only_from_its_own_streams,
        contract.test_09_bad_values_are_refused,
        contract.test_10_finish_leaves_nothing_behind,
    ):
        with pytest.raises(AssertionError):
            clause()
