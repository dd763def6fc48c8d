"""The contract for methods that need another model than the default one, or that give the model other parameters."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from contract_kept import KeptResultsContract, NormOnlyContract
from reinvest._testing.compare import differences, distance, traces
from reinvest._testing.library import OPTIMIZER, ContractTask
from reinvest._testing.loops import ChainLoop, HandLoop, MeanFirstLoop
from reinvest.core.criterion import per_example
from reinvest.core.method import Method
from reinvest.core.recipe import Recipe
from reinvest.core.streams import example_integers, key
from reinvest.loop.train import train
from reinvest.store import Store
from reinvest.testbed.models.bert import bert, bert_classifier
from reinvest.testing import MethodContract, Setup


@dataclass(frozen=True)
class OwnSetup(Setup):
    """A setup that builds a model of its own; as the library's loop begins, or as own loops do."""

    library: bool = False
    factory: ClassVar[str] = ""
    """Functions `<factory>_task` and `<factory>_model` of this module are the same for the library's loop."""

    def build(self) -> nn.Module:
        """The model, drawn from torch's generator."""
        raise NotImplementedError

    def model(self) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(key(self.seed, "init") >> 1 if self.library else self.seed)
            return self.build().to(self.dtype)

    def seed_dropout(self) -> None:
        torch.manual_seed(key(self.seed, "dropout") >> 1 if self.library else self.seed)

    def recipe(self, methods: Any) -> Recipe:
        return Recipe(
            task=f"{__name__}:{self.factory}_task",
            model=f"{__name__}:{self.factory}_model",
            duration=f"{self.epochs}ep",
            batch_size=self.batch_size,
            optimizer=OPTIMIZER,
            schedule="constant",
            methods=tuple(methods),
        )


@dataclass(frozen=True)
class TokenSetup(OwnSetup):
    """Sentences of eight tokens, some shorter; the class is told by which token there is most of."""

    factory: ClassVar[str] = "token"

    def data(self) -> tuple[torch.Tensor, torch.Tensor]:
        ids = torch.arange(self.examples)
        y = example_integers(self.seed, "contract.y", 0, ids, self.classes)[:, 0]
        drawn = example_integers(self.seed, "contract.x", 0, ids, 20, 9)
        x = torch.where(drawn[:, :8] < 8, y[:, None] + 2, drawn[:, :8] + 2)
        return x.masked_fill(torch.arange(8) >= 5 + drawn[:, 8:] % 4, 0), y

    def build(self) -> nn.Module:
        return bert_classifier(
            input_shape=(8,), classes=self.classes, width=8, layers=2, heads=2, dropout=self.dropout, positions=10
        )


def token_task() -> ContractTask:
    return ContractTask(TokenSetup())


def token_model(*, input_shape: Any, classes: int) -> nn.Module:
    return TokenSetup().build()


class NormNet(nn.Module):
    """A convolution, a group norm without weights under autocast, and a linear layer.

    Whatever has weights is outside autocast: their gradients in bfloat16 would depend on how a batch is split.
    """

    def __init__(self, classes: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2)
        self.norm = nn.GroupNorm(2, 6, affine=False)
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(6, classes)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        x = self.conv(pixel_values)
        with torch.autocast("cpu", torch.bfloat16):
            x = self.norm(x)
        return self.head(self.dropout(x.float().relu().mean((2, 3))))


@dataclass(frozen=True)
class NormSetup(OwnSetup):
    """The default pictures for a model with autocast in it."""

    factory: ClassVar[str] = "norm"

    def build(self) -> nn.Module:
        return NormNet(self.classes, self.dropout)


def norm_task() -> ContractTask:
    return ContractTask(NormSetup())


def norm_model(*, input_shape: Any, classes: int) -> nn.Module:
    return NormSetup().build()


@dataclass(frozen=True)
class MaskedSetup(OwnSetup):
    """Texts of ten tokens out of ten, each the one after its predecessor, two of each text to be predicted."""

    classes: int = 12
    factory: ClassVar[str] = "masked"

    def data(self) -> tuple[torch.Tensor, torch.Tensor]:
        ids = torch.arange(self.examples)
        drawn = example_integers(self.seed, "contract.x", 0, ids, 10, 12)
        tokens = (drawn[:, :1] + torch.arange(10)) % 10 + 2
        chosen = drawn[:, 2:].argsort(dim=1, stable=True)[:, :2]
        y = torch.full_like(tokens, -100).scatter_(1, chosen, tokens.gather(1, chosen))
        return tokens.scatter(1, chosen, 1), y

    def build(self) -> nn.Module:
        return bert(input_shape=(10,), classes=self.classes, width=8, layers=1, heads=2, dropout=self.dropout)


class MaskedTask(ContractTask):
    """Scored by the share of predicted tokens that are right."""

    def score(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        valid = target >= 0
        return ((output.argmax(1) == target) & valid).sum(1) / valid.sum(1)


def masked_task() -> ContractTask:
    return MaskedTask(MaskedSetup())


def masked_model(*, input_shape: Any, classes: int) -> nn.Module:
    return MaskedSetup().build()


class PerExampleLoop(HandLoop):
    """A loop by hand that averages over an example's targets first, then over examples."""

    def batch(self, ids: Any, x: Any, y: Any) -> Any:
        self.wanted = y
        return ids, x, y

    def losses(self, losses: Any, output: Any, ids: Any, x: Any) -> Any:
        return per_example(losses, self.wanted)


class LayoutContract(MethodContract):
    """For methods after which the model has other parameters: what both models have is compared."""

    def test_01_the_example_acts(self) -> None:
        found, plain = (
            run.run().result()["model"] for run in (ChainLoop(self.setup, [self.make()]), HandLoop(self.setup))
        )
        if {n: t.shape for n, t in found.items()} == {n: t.shape for n, t in plain.items()}:
            assert distance(found, plain) > 1e-4

    def test_10_finish_leaves_nothing_behind(self) -> None:
        plain = HandLoop(self.setup).run()
        wanted = _by_kind(traces(plain.model, plain.optimizer, surgery=True))
        method = self.make()
        before = dict(vars(method))
        loop = ChainLoop(self.setup, [method]).run()
        assert _by_kind(traces(loop.model, loop.optimizer, surgery=True)) == wanted
        assert differences(vars(method), before) == []
        held = [id(p) for group in loop.optimizer.param_groups for p in group["params"]]
        assert sorted(held) == sorted(map(id, loop.model.parameters())), "the optimizer holds the model's parameters"
        broken = ChainLoop(self.setup, [method])
        try:
            with broken.attached():
                broken.train(until=2)
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        assert _by_kind(traces(broken.model, broken.optimizer, surgery=True)) == wanted
        assert differences(vars(method), before) == []


def _by_kind(found: dict[str, Any]) -> dict[str, set[str]]:
    """What modules and parameters have beside their names and number, and the rest as it is."""
    kinds: dict[str, set[str]] = {}
    for name, value in found.items():
        if name != "saved":
            kinds.setdefault(name.split()[0], set()).add(repr(value))
    return kinds


class OwnModelContract(LayoutContract):
    """On a setup with a model of its own, in the library's loop too."""

    setup: ClassVar[OwnSetup]

    def test_02_own_loop_is_library_loop(self, tmp_path: Any) -> None:
        setup = dataclasses.replace(self.setup, library=True)
        own = ChainLoop(setup, [self.make()]).run().result()
        run = train(setup.recipe([self.make()]), setup.seed, Store(tmp_path / "runs"), device="cpu", progress=False)
        assert run.status == "finished" and run.steps == setup.total_steps
        assert differences(dict(run.weights()), own["model"]) == []


class TokenContract(OwnModelContract):
    """On sentences, with a small transformer; pictures' methods are no companions."""

    setup = TokenSetup()

    def companions(self) -> list[Method]:
        return [m for m in super().companions() if m.name != "Cutout"]


class MaskedContract(OwnModelContract):
    """On masked texts: targets [B, T]; the ordinary loop's mean over tokens differs in the last bits."""

    setup = MaskedSetup()

    def companions(self) -> list[Method]:
        return [m for m in super().companions() if m.name != "Cutout"]

    def test_01_neutral_setting_is_the_plain_loop(self) -> None:
        found = ChainLoop(self.setup, [self.make_neutral()]).run().result()
        assert differences(found, PerExampleLoop(self.setup).run().result()) == []
        assert distance(found["model"], MeanFirstLoop(self.setup).run().result()["model"]) <= 1e-6

    def test_01_the_example_acts(self) -> None:
        found = ChainLoop(self.setup, [self.make()]).run().result()
        assert distance(found["model"], PerExampleLoop(self.setup).run().result()["model"]) > 1e-4


class NormContract(OwnModelContract):
    """On a model with autocast in it."""

    setup = NormSetup()


class CleanContract(MethodContract):
    """The setup's loader offers no clean examples, so they are given; whatever its settings, it changes nothing."""

    neutral: ClassVar[dict[str, Any]] = {"loader": "contract_losses:Clean"}


CONTRACTS: dict[str, type[MethodContract]] = {
    "CleanLosses": CleanContract,
    "ALiBi": TokenContract,
    "ChannelsLast": KeptResultsContract,
    "FactorizedLayers": LayoutContract,
    "GatedLinearUnits": TokenContract,
    "GhostBatchNorm": NormOnlyContract,
    "LowPrecisionNorm": NormContract,
    "MaskingRate": MaskedContract,
    "MemorySavingActivations": KeptResultsContract,
    "SequenceLengthWarmup": TokenContract,
    "SqueezeExcite": LayoutContract,
}
"""Methods whose contract is not the default one."""
