"""A batch as the methods see it: what the loader yielded, with the parts that matter given names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .errors import InvalidValue, MissingIds
from .probes import Probes
from .view import TEST, VALIDATION, TaskView

ID_KEY = "reinvest_id"
TARGET_KEYS = ("labels", "label", "targets", "target", "y")
INPUT_KEYS = ("pixel_values", "image", "images", "input_ids", "inputs", "input", "x")
IDS_REMEDY = "wrap the data set: DataLoader(ri.Indexed(dataset), ...)"


@dataclass(frozen=True, slots=True)
class Mix:
    """How examples were blended: the batch's input is c * own + (1 - c) * partner's, and so are its targets."""

    partners: Tensor  # targets of the partners [B, ...]
    coefficients: Tensor  # c in [0, 1], float [B]
    ids: Tensor | None = None  # ids of the partners [B], where the loader yields ids

    def take(self, rows: Any) -> Mix:
        """The same blend for the examples `rows`."""
        ids = None if self.ids is None else self.ids[rows]
        return Mix(self.partners[rows], self.coefficients[rows], ids)


@dataclass(slots=True)
class Batch:
    """ids [B] or None, the main input [B, ...], targets [B, ...] or None, and the container they came in.

    A value: methods return new ones and never change one in place (it is not frozen only because that costs time).
    """

    inputs: Any
    targets: Any
    ids: Tensor | None
    container: Any
    mix: Mix | None = None
    moved: bool = False
    """Whether label maps were cut or shifted: their pixels no longer lie where those of the stored picture do."""
    thinned: bool = False
    """Whether a method's `select` has left examples out, for the methods that select after it."""

    def __len__(self) -> int:
        for value in (self.targets, self.inputs, self.ids):
            if isinstance(value, Tensor) and value.ndim:
                return value.shape[0]
        raise InvalidValue(
            f"a batch holds tensors with one row per example, got {type(self.container).__name__}; yield tensors [B, ...]"
        )

    def need_ids(self, who: str) -> Tensor:
        """The ids [B]; raises MissingIds, with the remedy, if the loader yields none."""
        if self.ids is None:
            raise MissingIds(f"{who} needs example ids and the loader yields none; {IDS_REMEDY}")
        return self.ids

    def images(self, who: str) -> Tensor:
        """The main input as floating images [B, C, H, W]; raises InvalidValue if it is anything else."""
        x = self.inputs
        if not isinstance(x, Tensor) or x.ndim != 4 or not x.is_floating_point():
            got = f"{x.dtype} {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise InvalidValue(
                f"{who} works on floating images [B, C, H, W], got {got}; convert the batch or leave the method out"
            )
        return x

    def with_inputs(self, inputs: Any) -> Batch:
        """The same batch with another main input."""
        return replace(self, inputs=inputs)

    def take(self, rows: Any) -> Batch:
        """The examples `rows` (indices [k], a mask [B] or a slice) of everything that has one row per example."""
        size = len(self)

        def pick(value: Any) -> Any:
            return take_rows(value, rows, size)

        mix = None if self.mix is None else self.mix.take(rows)
        return Batch(
            pick(self.inputs), pick(self.targets), pick(self.ids), map_container(self.container, pick), mix, self.moved
        )

    def package(self) -> Any:
        """What the user's loop receives: the loader's own type, less the id, with the current input and target."""
        box = self.container
        if isinstance(box, Mapping):
            out = dict(box)
            input_key, target_key = _key(box, INPUT_KEYS), _key(box, TARGET_KEYS)
            if input_key is not None:
                out[input_key] = self.inputs
            if target_key is not None:
                out[target_key] = self.targets
            return out if type(box) is dict else _like(box, out)
        if isinstance(box, Tensor):
            return self.inputs
        values = [self.inputs, self.targets, *box[2:]] if len(box) > 1 else [self.inputs]
        return _rebuild(box, values)


def take_rows(value: Any, rows: Any, size: int) -> Any:
    """`rows` of a field that has a row for each of `size` examples; any other field as it is.

    Such fields are tensors [B, ...], lists and tuples of B items, and lists and tuples of tensors that all are [B, ...],
    which torch's collate function makes of tuples in the examples.
    """
    if isinstance(value, Tensor):
        return value[rows] if value.ndim and len(value) == size else value
    if value.__class__ not in (list, tuple) or not value:
        return value
    if is_columns(value, size):
        return type(value)(v[rows] for v in value)
    if len(value) != size:
        return value
    if isinstance(rows, slice):
        return value[rows]
    return type(value)(value[i] for i in torch.arange(size)[rows.cpu() if isinstance(rows, Tensor) else rows].tolist())


def is_columns(value: Any, size: int) -> bool:
    """Whether a list holds tensors that each have a row for each of `size` examples."""
    listed = value.__class__ in (list, tuple)
    return listed and all(isinstance(v, Tensor) and v.ndim > 0 and len(v) == size for v in value)


def _key(box: Mapping[str, Any], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in box), None)


def _like(box: Mapping[str, Any], values: dict[str, Any]) -> Any:
    # Hugging Face's BatchEncoding and the like are built from a dict.
    return type(box)(values)  # type: ignore[call-arg]


def _rebuild(box: Any, values: list[Any]) -> Any:
    if hasattr(box, "_fields"):
        return type(box)(*values)
    return type(box)(values)


def map_container(box: Any, change: Callable[[Any], Any]) -> Any:
    """A loader's item of the same type, with `change` made to everything in it."""
    if isinstance(box, Mapping):
        return _like(box, {k: change(v) for k, v in box.items()})
    if isinstance(box, Tensor):
        return change(box)
    return _rebuild(box, [change(v) for v in box])


def unpack(item: Any, indexed: bool) -> Batch:
    """A loader's item as a Batch. indexed says that a tuple begins with the ids (dicts say it by their key)."""
    if item.__class__ in (tuple, list) and len(item) == 2 and not indexed:
        return Batch(item[0], item[1], None, item)
    if isinstance(item, Mapping):
        ids = item.get(ID_KEY)
        box: Any = item if ids is None else _like(item, {k: v for k, v in item.items() if k != ID_KEY})
        input_key, target_key = _key(box, INPUT_KEYS), _key(box, TARGET_KEYS)
        return Batch(
            None if input_key is None else box[input_key], None if target_key is None else box[target_key], ids, box
        )
    if isinstance(item, Tensor):
        return Batch(item, None, None, item)
    if not isinstance(item, (tuple, list)) or not item:
        raise InvalidValue(
            f"a loader yields (x, y) tuples, dicts or tensors, got {type(item).__name__}; collate the batch into one of those"
        )
    if indexed:
        ids, rest = item[0], item[1:]
        if not isinstance(ids, Tensor):
            ids = torch.as_tensor(ids)
        box = tuple(rest) if hasattr(item, "_fields") else type(item)(rest)
        return Batch(rest[0] if rest else None, rest[1] if len(rest) > 1 else None, ids, box)
    return Batch(item[0], item[1] if len(item) > 1 else None, None, item)


class Indexed:
    """Gives every example of a map-style data set its id: (id, x, y) for tuples, `reinvest_id` added to dicts.

    The id is the position in `dataset`, so wrap the whole data set before taking subsets of it. name: what the data
    set is called; records of another name are refused. hashes: int64 [N] over label and content, so that grown or
    re-ordered data are seen. roles: uint8 [N], 1 train, 2 validation, 3 test, 0 none, so that a teacher that has seen
    test examples is refused. Probes of a `Probed` data set are told to the run's records. Raises InvalidValue for a
    data set without a length (a stream has no stable ids), for hashes or roles of another length, and for probes among
    validation or test examples.
    """

    indexed = True

    def __init__(self, dataset: Any, name: str = "", hashes: Tensor | None = None, roles: Tensor | None = None) -> None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise InvalidValue(
                f"ids need a data set with a length and items by number, got {type(dataset).__name__}; "
                "a stream cannot be indexed, so leave out methods that need ids"
            )
        for what, column in (("hashes", hashes), ("roles", roles)):
            if column is not None and column.shape != (len(dataset),):
                raise InvalidValue(
                    f"{what} are one number an example ([{len(dataset)}]), got shape {list(column.shape)}; "
                    "give one for every example"
                )
        probes = found if isinstance(found := getattr(dataset, "probes", None), Probes) else None
        if probes is not None and roles is not None:
            _check_held_out(probes, roles.cpu())
        self.dataset = dataset
        self.view = TaskView(
            namespace=name,
            examples=len(dataset),
            hashes=None if hashes is None else lambda: hashes,
            roles=None if roles is None else lambda: roles.to(torch.uint8),
            probes=probes,
        )

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        index = int(index)
        if index < 0:
            index += len(self)
        item = self.dataset[index]
        if isinstance(item, Mapping):
            return {**item, ID_KEY: index}
        if isinstance(item, (tuple, list)):
            return (index, *item)
        return (index, item)


def _check_held_out(probes: Probes, roles: Tensor) -> None:
    """Refuse probes whose labels and inputs would change what is evaluated on."""
    own = roles[probes.ids]
    held = probes.ids[(own == VALIDATION) | (own == TEST)]
    if len(held):
        raise InvalidValue(
            f"probes are training examples, got {len(held)} of the validation or test split, the first {int(held[0])}; "
            "choose them with choose_probes(labels, among=roles == 1)"
        )


def find_ids(loader: Any) -> tuple[bool, int | None]:
    """Whether tuples of this loader begin with an id, and the number of ids (largest id + 1), or None.

    Looks through a DataLoader and subsets for `Indexed`. Several `Indexed` sets joined in one would share their ids
    and are refused.
    """
    if getattr(loader, "indexed", False):
        examples = getattr(loader, "examples", None)
        return True, int(examples) if examples is not None else (len(loader) if isinstance(loader, Indexed) else None)
    if hasattr(loader, "dataset"):
        return find_ids(loader.dataset)
    members = getattr(loader, "datasets", None)
    if isinstance(members, (list, tuple)) and any(find_ids(member)[0] for member in members):
        raise InvalidValue(
            "ids must be unique, got several indexed data sets joined in one; wrap the joined set once: ri.Indexed(ConcatDataset([...]))"
        )
    return False, None
