"""StochasticDepth: residual branches left out at random while training, the deeper the more often."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core import names
from ...core.batch import Batch
from ...core.errors import InvalidValue
from ...core.method import Card, Context, Method
from ...core.streams import example_uniform, stream
from .._check import number
from ._classes import Changed, change_module, changed_class, restore_modules
from ._replace import warn_of_nothing

MODES = ("batch", "sample")
KEYS = ("branch", "shortcut", "activation")
ACTIVATIONS = ("relu",)
ROOT = __name__.partition(".")[0]
KNOWN: dict[str, Any] = {
    f"{ROOT}.testbed.models.resnet:Block": {"branch": "bn2", "shortcut": "shortcut", "activation": "relu"},
    f"{ROOT}.testbed.models.transformer:Layer": {"branch": ["attention", "shrink"]},
}
"""Block types of the package's own models; they are found by name where a model has them."""


def linear_survival(blocks: int, last: float) -> list[float]:
    """The survival probability of each of `blocks` blocks in order: p_l = 1 - l / L * (1 - last), l = 1 .. L."""
    return [1.0 - (k + 1) / blocks * (1.0 - last) for k in range(blocks)]


class Branch(Changed):
    """A module whose output is a residual branch: multiplied, while training, by 1/p if it survives and 0 if not."""

    own = ("drop_factor", "drop_place")
    drop_factor: Tensor
    drop_place: Tensor

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The branch, or none of it."""
        y: Tensor = super().forward(*args, **kwargs)
        if not self.training:
            return y
        factor = self.drop_factor
        if factor.ndim and len(factor) != len(y):
            # A part of an accumulated batch: its rows come after those of the parts before it.
            rows = (self.drop_place + torch.arange(len(y), device=factor.device)) % len(factor)
            factor = factor[rows]
            self.drop_place.add_(len(y))
        return y * factor.to(y.dtype).view(-1, *[1] * (y.ndim - 1)) if factor.ndim else y * factor


class Block(Changed):
    """A residual block that is not computed at all where its only branch does not survive."""

    own = ("drop_now", "drop_shortcut", "drop_activation")
    drop_now: bool
    drop_shortcut: str
    drop_activation: str

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The block's output, or its shortcut's."""
        if not (self.training and self.drop_now):
            return super().forward(x, *args, **kwargs)  # type: ignore[no-any-return]
        shortcut = getattr(self, self.drop_shortcut) if self.drop_shortcut != "identity" else None
        y: Tensor = x if shortcut is None else shortcut(x)
        return F.relu(y) if self.drop_activation == "relu" else y


class BranchDrops:
    """The residual branches of a model, prepared to be dropped; `draw` decides which, `remove` undoes it all.

    survival: probability of the last block, from which that of the others follows (`linear_survival`); blocks count in
    the order in which the model holds them. mode "batch" keeps or drops a branch for all examples, and does not compute
    a dropped block where `blocks` says what its shortcut is; "sample" decides for every example. blocks: as
    `StochasticDepth` takes them. Raises InvalidValue for a block that lacks a branch that is named.
    """

    def __init__(self, model: nn.Module, survival: float, mode: str = "batch", blocks: Mapping[str, Any] | None = None):
        self.model, self.mode = model, mode
        kinds = _kinds(blocks)
        found = [(n, m, about) for n, m in model.named_modules() for kind, about in kinds if type(m) is kind]
        self.replaced: dict[str, str] = {}
        self._branches: list[Branch] = []
        self._blocks: list[tuple[int, Block]] = []
        rates = []
        for (name, block, about), rate in zip(found, linear_survival(len(found), survival), strict=True):
            try:
                self._prepare(name, block, about)
            except InvalidValue:
                self.remove()
                raise
            rates += [rate] * len(about["branch"])
        self.survival = torch.tensor(rates)
        self.kept = 1.0

    def _prepare(self, name: str, block: nn.Module, about: Mapping[str, Any]) -> None:
        first = len(self._branches)
        for child in about["branch"]:
            try:
                end = block.get_submodule(child)
            except AttributeError:
                known = ", ".join(n for n, _ in block.named_modules() if n)
                raise InvalidValue(
                    f"a branch is a module of its block, got {child!r} for {name!r}; the block has {known}"
                ) from None
            if isinstance(end, Branch):
                raise InvalidValue(
                    f"a branch belongs to one block, got {child!r} of {name!r}, which another block has too; name others"
                )
            device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
            own = {
                "drop_factor": torch.ones((), device=device),
                "drop_place": torch.zeros((), dtype=torch.int64, device=device),
            }
            path = ".".join(filter(None, (name, child)))
            self.replaced[path] = change_module(end, changed_class(type(end), Branch, "Dropped"), **own)
            assert isinstance(end, Branch)
            self._branches.append(end)
        if self.mode == "batch" and about["shortcut"]:
            left = {"drop_shortcut": about["shortcut"], "drop_activation": about["activation"]}
            new = changed_class(type(block), Block, "Skipped")
            if "forward" not in vars(new):
                # A graph cannot decide what is computed, so each block has one of its own. Not a decorator above: that
                # loads the compiler, for a second, whenever this file is imported.
                new.forward = torch.compiler.disable(Block.forward, recursive=False)  # type: ignore[no-untyped-call]
            self.replaced[name] = change_module(block, new, drop_now=False, **left)
            assert isinstance(block, Block)
            self._blocks.append((first, block))

    def __len__(self) -> int:
        return len(self._branches)

    @property
    def skips(self) -> bool:
        """Whether dropped blocks are not computed."""
        return bool(self._blocks)

    def draw(self, uniforms: Tensor) -> None:
        """Which branches the next batch uses: uniforms in [0, 1), [branches] for "batch", [B, branches] for "sample"."""
        if not self._branches:
            return
        rates = self.survival.to(uniforms.device)
        alive = uniforms < rates
        factors = (alive / rates).to(self._branches[0].drop_factor.device, non_blocking=True).unbind(-1)
        for branch, factor in zip(self._branches, factors, strict=True):
            branch.drop_factor = factor
            branch.drop_place.zero_()
        if self._blocks:
            chosen = alive.tolist()  # drawn on the CPU, so nothing waits for a device
            for place, block in self._blocks:
                block.drop_now = not chosen[place]
            self.kept = sum(chosen) / len(chosen)

    def remove(self) -> None:
        """Leave the model as it was."""
        restore_modules(self.model, Block)
        restore_modules(self.model, Branch)


def _kinds(blocks: Mapping[str, Any] | None) -> list[tuple[type[nn.Module], dict[str, Any]]]:
    return [(names.load(ref), _about(ref, about)) for ref, about in (KNOWN if blocks is None else blocks).items()]


def _about(reference: str, about: Any) -> dict[str, Any]:
    """A block type's branches, shortcut and activation, checked."""
    given = about if isinstance(about, Mapping) else {"branch": about}
    branch = given.get("branch")
    listed = isinstance(branch, Sequence) and not isinstance(branch, str)
    branches: list[Any] = list(branch or ()) if listed else [branch]
    ok = (
        ":" in str(reference)
        and branches
        and all(isinstance(b, str) and b for b in branches)
        and set(given) <= set(KEYS)
        and isinstance(given.get("shortcut", ""), str)
        and given.get("activation", "") in ("", *ACTIVATIONS)
    )
    if not ok or (given.get("shortcut") and len(branches) > 1):
        raise InvalidValue(
            "a block is 'package.module:Class' with the name of the module whose output is its residual branch, or a "
            f"mapping of {', '.join(KEYS)} (a shortcut for one branch, activation 'relu'), got { ({reference: about})!r}; "
            "write {'torchvision.models.resnet:BasicBlock': 'bn2'}"
        )
    return {"branch": branches, "shortcut": given.get("shortcut", ""), "activation": given.get("activation", "")}


class StochasticDepth(Method):
    """Drops the residual branch of block l with probability 1 - p_l = l / L * (1 - survival), while training.

    survival: of the last block, in (0, 1]; 1 changes nothing. mode: "batch", as in the paper, draws once for the whole
    (global) batch, and a dropped block of a type whose shortcut is known is not computed: no statistics, no gradients,
    so an optimizer leaves its weights alone in that step (under DistributedDataParallel that needs
    find_unused_parameters=True); "sample" draws for every example and computes everything. blocks: {"package.module:Class":
    name}, where name (or a list of names) is the module inside the block whose output is added to the shortcut, such
    as {"torchvision.models.resnet:BasicBlock": "bn2"}; a mapping {"branch": "bn2", "shortcut": "downsample",
    "activation": "relu"} says also what is left of a dropped block ("identity", or a module or method of it; None there
    is the identity too). By default the blocks of the package's own models.

    Scaling is inverted: a surviving branch is multiplied by 1 / p_l in training and evaluation is the plain model,
    where the paper leaves it alone in training and multiplies by p_l in evaluation. For a branch that ends in an affine
    norm the two are one model in other coordinates. So nothing stays in the model at the end. `report()` tells until
    then what was prepared. Draws belong to (epoch, id) where the loader yields ids. Warns without any such block; raises
    InvalidValue for values outside these ranges, Conflict on a compiled model. In "batch" mode torch.compile breaks its
    graph at every block that can be skipped.
    """

    card = Card(
        title="Stochastic depth",
        paper="Huang, Sun, Liu, Sedra, Weinberger: Deep Networks with Stochastic Depth",
        year=2016,
        arxiv="1603.09382",
        phase="start",
        cost="batch: blocks that are dropped cost nothing, a quarter of all at survival 0.5 and many blocks; sample: "
        "a multiplication per branch",
        breaks="shallow nets lose capacity, and short runs underfit; examples must be the first dimension; in sample mode "
        "parts of a batch go with neither checkpointed activations nor a block that runs twice",
        domains=("vision", "language"),
    )
    neutral: ClassVar = {"survival": 1.0}
    example: ClassVar = {"survival": 0.5, "mode": "sample", "blocks": {"torch.nn:Sequential": "4"}}
    changes_model = True
    surgery_order = 2
    single = True

    def __init__(self, survival: float = 0.5, *, mode: str = "batch", blocks: Mapping[str, Any] | None = None) -> None:
        self.survival = number(
            survival, "survival is a probability above 0, up to 1 (nothing dropped)", "0.5 is usual", 0, 1, above=True
        )
        if mode not in MODES:
            raise InvalidValue(f"mode is one of {', '.join(map(repr, MODES))}, got {mode!r}; choose one of them")
        if blocks is not None and (not isinstance(blocks, Mapping) or not blocks):
            raise InvalidValue(f"blocks map types to branches, got {blocks!r}; write {{'package.module:Class': 'bn2'}}")
        for reference, about in (blocks or {}).items():
            _about(reference, about)
        self.mode = mode
        self.blocks = None if blocks is None else dict(blocks)
        self._drops: BranchDrops | None = None
        self._node: int | None = None
        self._uniforms: Tensor | None = None

    def start(self, context: Context) -> None:
        """Prepare the blocks."""
        self._node = self._uniforms = None
        if self.survival == 1:
            return
        drops = BranchDrops(context.model, self.survival, self.mode, self.blocks)
        if len(drops):
            self._drops = drops
        else:
            warn_of_nothing(self.name, "residual block of a known type")

    def augment(self, batch: Batch, context: Context) -> Batch:
        """The same batch; which branches it uses is drawn here."""
        if self._drops is not None:
            self._drops.draw(self._drawn(batch, context, len(self._drops)))
        return batch

    def _drawn(self, batch: Batch, context: Context, count: int) -> Tensor:
        seed, epoch, node = context.seed, context.epoch, context.world[0]
        if self.mode == "batch":
            return stream(seed, self.name, epoch, context.step).uniform(count)
        if batch.ids is not None:
            found = example_uniform(seed, self.name, epoch, batch.ids, count)
        else:
            draws = stream(seed, self.name, epoch, context.step, node=node)
            found = draws.uniform(len(batch) * count).view(-1, count)
        # The slices of a batch come in the order of their nodes and are one batch to the model.
        if self._uniforms is not None and self._node is not None and node > self._node:
            found = torch.cat([self._uniforms, found])
        self._node, self._uniforms = node, found
        return found

    def kind(self, context: Context) -> Hashable:
        """The share of branches that are computed, in tenths, where dropped blocks are not."""
        return f"{round(10 * self._drops.kept)}/10" if self._drops is not None and self._drops.skips else None

    def report(self) -> dict[str, Any]:
        """replaced: {name: "Old -> New"} and survival: the probability of every branch in order, until the run ends."""
        drops = self._drops
        return {
            "replaced": {} if drops is None else dict(drops.replaced),
            "survival": [] if drops is None else drops.survival.tolist(),
        }

    def finish(self, context: Context) -> None:
        """Leave the model as it was."""
        if self._drops is not None:
            self._drops.remove()
        self._drops = self._node = self._uniforms = None
