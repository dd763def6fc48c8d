"""WarmStart: begin with an earlier run's weights, shrunk and mixed with the fresh ones as far as is asked for."""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...core import names
from ...core.batch import Batch, unpack
from ...core.errors import InvalidValue, LoopError
from ...core.forward import logits_of
from ...core.method import Card, Context, Method
from ...core.protocols import find_run
from .._check import number, switch
from ._states import Partial, beginning, layer_weights, part_state, partial_state, refuse_classes, whole_state
from ._statistics import evaluating, has_statistics, refresh_statistics, relative_change

__all__ = ["WarmStart", "partial_state", "shrink_perturb"]

HEADS = ("new", "refuse")
ROWS = 250
"""Examples of a pass over the clean data that `start` sees at once."""
BATCHES = 20
"""Batches of `ROWS` from which batch norm statistics are taken again."""


def shrink_perturb(
    old: Mapping[str, Tensor],
    fresh: Mapping[str, Tensor],
    names: Collection[str] | None = None,
    *,
    keep: float,
    noise: float,
) -> dict[str, Tensor]:
    """keep * old + noise * fresh of the entries `names`; all other entries are the old ones (the fresh at keep=0).

    fresh: a newly initialised state of the same shapes, so that each layer's noise has its own scale. names: by default
    every floating entry that is the weight or bias of a module whose weight has two dimensions or more (norm layers
    and running statistics are none). keep 1 and noise 0 give the old values bit for bit, keep 0 and noise 1 the fresh
    ones. 16-bit values are mixed in 32 bits. Neither state is changed; a tied weight is mixed once under each name.
    """
    if names is None:
        deep = {n.rpartition(".")[0] for n, t in fresh.items() if t.is_floating_point() and t.ndim > 1}
        names = {n for n, t in fresh.items() if t.is_floating_point() and n.rpartition(".")[0] in deep}
    done = {}
    for name, new in fresh.items():
        known = old[name].detach().to(new.device)
        if name not in names or not new.is_floating_point():
            done[name] = (known if keep > 0 else new.detach()).to(new.dtype).clone()
            continue
        wide = torch.promote_types(new.dtype, torch.float32)
        parts = [f * t.detach().to(wide) for f, t in ((keep, known), (noise, new)) if f]
        done[name] = (sum(parts[1:], parts[0]) if parts else torch.zeros_like(new)).to(new.dtype)
    return done


class WarmStart(Method):
    """Begins with the weights of an earlier run: w = keep * old + noise * fresh.

    run: a Run or its id, a mapping from names to tensors, or None for the model's own weights when training begins.
    keep: share of the old weights, in [0, 1]; 1 takes them as they are, 0 none of them. noise: factor, from 0, on the
    model's own fresh weights; with keep=0 and noise=1 the run starts as if from scratch. Both act on weights and biases
    of all layers but norms (norms=True: on these too); norms and buffers are the old ones. heads: "new" copies the
    rows of known classes by class name, or by number where names are unknown, and leaves new classes fresh; "refuse"
    refuses any entry of another shape. only: takes and changes the entries whose names begin so ("trunk."), which must have
    their old shapes, and leaves all others fresh: an encoder under a new head.

    Where weights were changed and the loader offers clean data, batch norm statistics are taken again from at most
    5,000 examples; without, they stay the old ones, which no longer fit until training has moved them. The peak of the
    learning rate is the recipe's business: about a third of that from scratch, with the whole schedule again
    (`reinvest.reuse.warm_start.warm_recipe`). A resumed run goes on from its own state.

    Raises InvalidValue for values outside these ranges, weights of another model and methods without their data;
    LoopError for an optimizer that has already stepped, because its moments belong to other weights.
    """

    card = Card(
        title="Warm start with shrink and perturb",
        paper="Ash, Adams: On Warm-Starting Neural Network Training",
        year=2020,
        arxiv="1910.08475",
        phase="start",
        cost="nothing per step; once, reading the weights",
        breaks="a test set that the earlier run was trained on leaks; without augmentation, weight decay and a schedule "
        "plain warm starts generalise worse than from scratch; shrinking a layer before a norm changes its effective "
        "learning rate only; DASH and FIRE were tried in two studies here, saved less than shrink-perturb, and were left out",
        domains=("vision", "language", "tabular", "audio"),
        references=("2410.23495", "2602.08040", "2502.21147"),
    )
    single = True
    neutral: ClassVar = {"run": None, "keep": 1.0}
    example: ClassVar = {"run": None, "keep": 0.5, "noise": 0.2}

    def __init__(
        self,
        run: Any,
        *,
        keep: float = 1.0,
        noise: float = 0.0,
        heads: str = "new",
        norms: bool = False,
        only: str = "",
    ) -> None:
        weights = isinstance(run, Mapping) and all(isinstance(t, Tensor) for t in run.values())
        if not (run is None or weights or (isinstance(run, str) and run) or hasattr(run, "weights")):
            raise InvalidValue(
                f"a warm start takes a Run, its id, named tensors or None (the model's own weights), got {run!r}; "
                "pass store.get(id)"
            )
        if heads not in HEADS:
            raise _unlisted("heads", heads, HEADS)
        self.run, self.heads = run, heads
        self.keep = number(keep, "keep is a share of the old weights from 0 to 1", "1.0 takes them whole", 0, 1)
        self.noise = number(noise, "noise is a finite factor from 0 on fresh weights", "0.4 is usual", 0, 1e9)
        self.norms = switch(norms, "norms")
        if not isinstance(only, str):
            raise InvalidValue(f"only is the beginning of the names to take, got {only!r}; write for example 'trunk.'")
        self.only = only
        self._report: dict[str, Any] = {}
        self._seconds = 0.0

    # ---- the start ---------------------------------------------------------------------------------------------

    def start(self, context: Context) -> None:
        """Put the weights into the model."""
        self._report, self._seconds = {}, 0.0
        scratch = (self.keep, self.noise) == (0, 1)
        own = self.run is None and (self.keep, self.noise) == (1, 0)
        if scratch or own:
            return
        begun = time.perf_counter()
        self._refuse_moments(context.optimizer)
        model = context.model
        live = model.state_dict()
        fitted = self._fit(live, context)
        fresh = {n: t.detach().clone() for n, t in live.items()}
        model.load_state_dict(fitted.state)
        before = {n: t.detach().clone() for n, t in model.state_dict().items()}
        outputs = self._outputs(context)
        if (self.keep, self.noise) != (1, 0):
            model.load_state_dict(self._changed(before, fresh, fitted, context))
            if has_statistics(model):
                refresh_statistics(model, itertools.islice(self._clean(context), BATCHES), self.only)
        layers = relative_change(model.state_dict(), before)
        change = self._function_change(outputs, self._outputs(context))
        self._report = {
            "layers": layers,
            "function": change,
            "fresh_rows": {n: r.tolist() for n, r in fitted.fresh_rows.items()},
        }
        self._seconds = time.perf_counter() - begun

    def _refuse_moments(self, optimizer: torch.optim.Optimizer) -> None:
        # Some optimizers make their (empty) moments when they are built: those have a step of 0.
        if any(state and float(state.get("step", 1)) > 0 for state in optimizer.state.values()):
            raise LoopError(
                "a warm start begins with a fresh optimizer, got one that has already stepped, whose moments belong to "
                "other weights; build the optimizer anew, or attach first and load a resumed state then"
            )

    def _fit(self, live: Mapping[str, Tensor], context: Context) -> Partial:
        """The old weights under the names and shapes of the model."""
        old: Mapping[str, Tensor]
        old_names: Sequence[str] | None = None
        if self.run is None or isinstance(self.run, Mapping):
            old = live if self.run is None else self.run
        else:
            run = find_run(self.run, self.name)
            names.resolve("fit", "weights")(run, context)
            old, old_names = run.weights(), (run.training.get("data") or {}).get("class_names")
        new_names = context.task.class_names
        grow = self.heads == "new"
        if self.only:
            return part_state(old, live, self.only, old_names=old_names, new_names=new_names, reorder=grow)
        if not grow:
            if old_names is not None and new_names is not None and list(old_names) != list(new_names):
                refuse_classes(old_names, new_names)
            return whole_state(old, live)
        return partial_state(old, live, old_names=old_names, new_names=new_names)

    def _changed(
        self, old: Mapping[str, Tensor], fresh: Mapping[str, Tensor], fitted: Partial, context: Context
    ) -> dict[str, Tensor]:
        """The state to start from; the old one is in the model."""
        model = context.model
        taken = beginning(model.state_dict(), self.only)
        names = layer_weights(model, norms=self.norms) & taken
        state = shrink_perturb(old, fresh, names, keep=self.keep, noise=self.noise)
        for name, rows in fitted.fresh_rows.items():
            rows = rows.to(state[name].device)
            state[name][rows] = fresh[name][rows]
        return state

    def _clean(self, context: Context) -> Iterator[Batch]:
        clean = context.task.clean
        for item in clean(ROWS) if clean is not None else ():
            yield unpack(item, True)

    # ---- what it did -------------------------------------------------------------------------------------------

    def _outputs(self, context: Context) -> Tensor | None:
        """The model's outputs for the first clean examples, where there are any."""
        first = None if (self.keep, self.noise) == (1, 0) else next(self._clean(context), None)
        if first is None:
            return None
        with evaluating(context.model), torch.no_grad():
            return logits_of(context.model, first, context.device, self.name).float()

    @staticmethod
    def _function_change(before: Tensor | None, after: Tensor | None) -> float | None:
        if before is None or after is None:
            return None
        return float((after - before).norm() / before.norm().clamp(min=1e-30))

    def report(self) -> dict[str, Any]:
        """What `start` changed, until the run ends: {} before it, and where there was nothing to do.

        layers: |new - old| / |old| by entry. function: the same of the outputs for the first 250 clean examples, None
        without clean data; a layer before a norm may shrink without any. fresh_rows: rows of new classes by entry.
        """
        return dict(self._report)

    def reuses(self) -> list[tuple[str, str]]:
        """The run whose weights it starts from."""
        known = self.run if isinstance(self.run, str) else getattr(self.run, "id", None)
        return [(known, "warm start")] if isinstance(known, str) else []

    def one_off(self) -> float:
        """Seconds that reading and changing the weights took."""
        return self._seconds

    def finish(self, context: Context) -> None:
        """Forget the report; the model keeps its weights."""
        self._report, self._seconds = {}, 0.0


def _unlisted(what: str, value: object, known: tuple[str, ...]) -> InvalidValue:
    """An InvalidValue that lists the values that `what` may have."""
    return InvalidValue(f"{what} is one of {', '.join(map(repr, known))}, got {value!r}; choose one of them")
