"""What a loader says of its data: which data set its ids belong to, and whether two runs speak of the same examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .criterion import cross_entropy

if TYPE_CHECKING:
    from torch import Tensor

NO_SPLIT, TRAIN, VALIDATION, TEST = range(4)
"""Values of `TaskView.roles`: the split that an example belongs to."""


@dataclass(frozen=True)
class TaskView:
    """The task as a chain sees it through its loader; whatever the loader does not say keeps its default.

    namespace: name of the data set; a per-example record is keyed by (namespace, id). fingerprint: of data and split.
    examples: largest id + 1 over all splits. preprocessing: text about what the model sees (shape, scaling); another
    text means other inputs. moves: whether training views move pixels or tokens against the stored example, so that a
    row per pixel of one view says nothing about another. augmentation: text about what is drawn for a training view;
    another text means other views for the same draws. hashes() -> int64 [N] of label and content; roles() ->
    uint8 [N], one of `NO_SPLIT`, `TRAIN`, `VALIDATION`, `TEST`; clean(batch_size) yields the training examples once,
    (ids [B], x [B, ...], y [B, ...]), as an evaluation would see them. probes: examples whose kind is known because it was
    made so, with names, ids, kinds, reference and labels as `dynamics.probes.Probes` has them; None for none.
    """

    criterion: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    namespace: str = ""
    fingerprint: str = ""
    examples: int | None = None
    classes: int | None = None
    class_names: tuple[str, ...] | None = None
    preprocessing: str = ""
    moves: bool = False
    augmentation: str = ""
    hashes: Callable[[], Tensor] | None = None
    roles: Callable[[], Tensor] | None = None
    clean: Callable[[int], Iterable[tuple[Tensor, Tensor, Tensor]]] | None = None
    probes: Any = None

    def plain(self) -> dict[str, Any]:
        """What a run keeps of it in its description: text and numbers."""
        names = self.class_names if self.class_names is not None and len(self.class_names) <= 1000 else None
        return {
            "namespace": self.namespace,
            "fingerprint": self.fingerprint,
            "examples": self.examples,
            "classes": self.classes,
            "class_names": None if names is None else list(names),
            "preprocessing": self.preprocessing,
            "augmentation": self.augmentation,
        } | ({} if self.probes is None else {"probes": list(self.probes.names)})


def view_of(loader: Any) -> TaskView:
    """The view that a loader, or the data set inside it, offers as attribute `view`; an empty one if there is none."""
    seen = 0
    while loader is not None and seen < 10:
        found = getattr(loader, "view", None)
        if isinstance(found, TaskView):
            return found
        loader, seen = getattr(loader, "dataset", None), seen + 1
    return TaskView()
