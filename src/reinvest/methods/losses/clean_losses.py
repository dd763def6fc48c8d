"""Clean losses: after each epoch one look at every training example, as evaluation would see it, kept by id."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...core.batch import Batch, find_ids, unpack
from ...core.criterion import check_losses, cross_entropy, in_range, margins_of, per_example, valid_counts
from ...core.errors import InvalidValue, MissingIds
from ...core.forward import logits_of
from ...core.method import Card, Context, Method
from ...core.names import load
from .._check import whole
from ..select.selective_backprop import looking

NOT_SEEN = 255
MOST = 65504.0
"""Largest float16."""


class CleanLosses(Method):
    """Looks at every training example after each `every`-th epoch, without augmentation and in evaluation mode, and keeps its
    label, its cross-entropy with that (whatever the criterion; the criterion's loss for targets that are no classes), its
    margin and the class that the model said; training stays as it is.

    What a run records for nothing comes from augmented views in train mode, each at other weights. These come all from the
    weights at the end of the epoch: the protocol of MAP-D, whose probes and examples must be measured alike. They go into
    the run's folder; `Trajectories.of(run)` reads them. The pass runs in full precision on the weights as they are trained
    (not on averages), in every process alike.

    every: epochs between two looks, from 1 up; a last epoch that is not whole is not looked at. batch: examples at once,
    from 1 up. loader: yields the training examples with ids, once and without augmentation, or "package.module:factory"
    of one; None asks the task that trains (loops of one's own pass one). Raises InvalidValue for other values and where
    there is no such loader, MissingIds for a loader without ids.
    """

    card = Card(
        title="Clean losses of every epoch",
        paper="Siddiqui, Rajkumar, Maharaj, Krueger, Hooker: Metadata Archaeology: Unearthing Data Subsets by Leveraging "
        "Training Dynamics",
        year=2022,
        arxiv="2209.10015",
        phase="losses",
        cost="a forward pass over the training examples an epoch: about a third more at every=1; charged to the run",
        breaks="nothing; the losses that a run records anyway find wrong labels about as well and cost nothing",
        domains=("vision", "language", "tabular"),
    )
    diagnostic = True
    horizon = True
    neutral: ClassVar = {}
    example: ClassVar = {"every": 1}

    def __init__(self, every: int = 1, *, batch: int = 512, loader: Any = None) -> None:
        self.every = whole(every, "every is a number of epochs from 1 up", "1 is the paper's", 1)
        self.batch = whole(batch, "batch is a number of examples from 1 up", "512 is usual", 1)
        self.loader = loader
        self._loader: Any = None
        self._tables: dict[str, Tensor] = {}
        self._passes: list[int] = []
        self._planned = 0

    def start(self, context: Context) -> None:
        """Make sure that there is something to look at."""
        self._tables, self._passes = {}, []
        self._planned = context.total_steps // context.steps_per_epoch // self.every
        self._loader = load(self.loader)() if isinstance(self.loader, str) else self.loader
        if self._loader is None and context.task.clean is None:
            raise InvalidValue(
                "CleanLosses looks at the training examples through the task, got a loader that does not offer them; pass "
                "CleanLosses(loader=...) with ids, in order and without augmentation"
            )
        if self._loader is not None and not find_ids(self._loader)[0]:
            raise MissingIds(
                "clean losses are kept by example id and the loader yields none; wrap the data set: "
                "DataLoader(ri.Indexed(dataset), ...)"
            )

    def looks(self, step: int, context: Context) -> bool:
        """Whether a look follows once `step` steps are done."""
        return step > 0 and step % (context.steps_per_epoch * self.every) == 0

    def losses(self, losses: Tensor, output: Tensor, batch: Batch, context: Context) -> Tensor:
        """As they are."""
        return losses

    def weights(self, context: Context) -> None:
        """The look, after the last step of an epoch."""
        if not self.looks(context.step, context):
            return
        # By the step, not by a count of looks: a timing block takes one step many times.
        column = context.step // (context.steps_per_epoch * self.every) - 1
        with looking(context.model), _in_full(context.device):
            for ids, batch in self._batches(context):
                output = logits_of(context.model, batch, context.device, self.name).float()
                targets = batch.targets.to(context.device)
                self._keep(column, ids, _losses_of(output, targets, context).float(), output, targets, context)
        self._passes[column:] = [context.epoch]

    def _batches(self, context: Context) -> Iterator[tuple[Tensor, Batch]]:
        clean = context.task.clean
        items = self._loader if self._loader is not None else clean(self.batch) if clean is not None else ()
        for item in items:
            batch = unpack(item, True)
            yield batch.need_ids(self.name).cpu().long(), batch

    def _keep(
        self, column: int, ids: Tensor, losses: Tensor, output: Tensor, targets: Tensor, context: Context
    ) -> None:
        single = output.ndim == 2 and targets.ndim == 1 and not targets.is_floating_point()
        found = {"loss": torch.where(losses.isinf(), losses, losses.clamp(max=MOST))}
        if single:
            found["labels"] = targets.to(torch.int32).clamp(min=-1)
            found["margin"] = margins_of(output, targets).clamp(-MOST, MOST)
            said = output.argmax(1)
            few = output.shape[1] <= NOT_SEEN
            right = said.eq(targets).to(torch.int8).masked_fill(targets < 0, -1)
            found["predicted" if few else "correct"] = said if few else right
        if not self._tables:
            self._allocate(found, context)
        for name, values in found.items():
            table = self._tables[name]
            table[ids if table.ndim == 1 else (ids, column)] = values.cpu().to(table.dtype)

    def _allocate(self, found: dict[str, Tensor], context: Context) -> None:
        kinds = {
            "loss": (torch.float16, float("nan")),
            "margin": (torch.float16, float("nan")),
            "predicted": (torch.uint8, NOT_SEEN),
            "correct": (torch.int8, -1),
            "labels": (torch.int32, -1),
        }
        examples = find_ids(self._loader)[1] if self._loader is not None else context.task.examples
        if examples is None:
            raise InvalidValue(
                "clean losses need the number of examples, got a loader that does not say; wrap the data set in ri.Indexed"
            )
        size = (examples, max(1, self._planned))
        sizes = {name: size[:1] if name == "labels" else size for name in found}
        self._tables = {name: torch.full(sizes[name], kinds[name][1], dtype=kinds[name][0]) for name in found}

    def kind(self, context: Context) -> Hashable:
        """ "with a look" or "plain"."""
        return "with a look" if self.looks(context.step + 1, context) else "plain"

    def findings(self) -> dict[str, Any]:
        """The tables [N, looks], the labels [N] of classes, and the epochs of the looks."""
        done = len(self._passes)
        if not done:
            return {}
        tables = {name: table[:, :done].contiguous() for name, table in self._tables.items() if table.ndim == 2}
        labels = {"labels": self._tables["labels"]} if "labels" in self._tables else {}
        return {"epochs": list(self._passes), "tables": tables} | labels

    def finish(self, context: Context) -> None:
        """Forget them."""
        self._tables, self._passes, self._loader, self._planned = {}, [], None, 0

    def factories(self) -> list[str]:
        """The loader's, if it was given by name."""
        return [self.loader] if isinstance(self.loader, str) else []

    def state_dict(self) -> dict[str, Any]:
        """The looks so far."""
        return {"passes": list(self._passes), "tables": {name: t.clone() for name, t in self._tables.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on."""
        self._passes, self._tables = list(state["passes"]), {name: t.clone() for name, t in state["tables"].items()}


def _in_full(device: torch.device) -> AbstractContextManager[object]:
    """Without the autocast of a loop that calls `step` inside it."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()


def _losses_of(output: Tensor, targets: Tensor, context: Context) -> Tensor:
    """Losses [B] as the records of a run have them, NaN for examples without a label."""
    if targets.is_floating_point() or output.ndim != targets.ndim + 1:
        losses = check_losses(context.criterion(output, targets), len(output), context.criterion)
        return per_example(losses, targets)
    targets = in_range(targets.long(), output)
    losses = cross_entropy(output, targets)
    return per_example(losses, targets).masked_fill(valid_counts(losses, targets) == 0, float("nan"))
