"""What suspects look like: pictures or text out of the data that a run saw, made small, read under a progress bar."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.errors import DataError, ReinvestError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from ..store.run import Run

LONGEST = 64
BATCH = 256
SNIPPET = 200
MOST_HASHED = 1_000_000
RANGE_FROM = 1024
"""Pictures from which the range of each colour is taken."""


@dataclass(frozen=True)
class Looks:
    """pictures: uint8 [S, H, W] or [S, H, W, 3]; maps: int64 [S, H, W], the label of each pixel where each has one, below 0
    for none; texts: one a suspect; note: why there is neither picture nor text."""

    pictures: NDArray[np.uint8] | None = None
    maps: NDArray[np.int64] | None = None
    texts: list[str] | None = None
    note: str | None = None


def open_task(run: Run) -> tuple[Any, str]:
    """(the task of a run's recipe, "") or (None, why there is none).

    Raises DataError if the data are there and are not those that the run saw.
    """
    from ..core import names

    spec = run.config.get("task")
    if not isinstance(spec, Mapping) or "name" not in spec:
        return None, "no pictures: the run's settings do not say how its data are made, as those of reinvest train do"
    try:
        task = names.resolve("task", str(spec["name"]))(**{k: v for k, v in spec.items() if k != "name"})
        fingerprint = str(task.fingerprint)
    # A list of suspects is not lost because the data, or somebody's factory, are not on this machine.
    except Exception as error:
        reason = str(error) if isinstance(error, ReinvestError) else f"{type(error).__name__}: {error}"
        return None, f"no pictures: the data of task {spec['name']!r} could not be opened ({' '.join(reason.split())})"
    seen = run.records().fingerprint
    if seen and fingerprint != seen:
        raise DataError(
            f"pictures are those that the run saw, got data of task {spec['name']!r} with the fingerprint {fingerprint} where "
            f"the run's is {seen}; bring the old data back, or add --no-pictures"
        )
    return task, ""


def contents_of(task: Any) -> Tensor | None:
    """int64 [N]: a hash of each example's input alone, in all splits; None for data that take long to read."""
    import torch

    from ..testbed.tasks import content

    view = task.view
    if view.hashes is None or not view.examples or view.examples > MOST_HASHED:
        return None
    found = torch.empty(view.examples, dtype=torch.int64)
    with _bar("comparing inputs", view.examples) as step:
        for some, x, _ in task.clean(BATCH, torch.arange(view.examples)):
            found[some.cpu()] = content.row_hashes(x, torch.zeros(len(x), dtype=torch.int64))
            step(len(some))
    return found


def looks_of(task: Any, spec: Mapping[str, Any], ids: Tensor) -> Looks:
    """Pictures or texts of examples `ids` [S]."""
    import torch

    if not len(ids):
        return Looks()
    kept: list[Tensor] = []
    maps: list[Tensor] = []
    decode: Callable[[Any], str] | None = None
    texts: list[str] = []
    with _bar("reading pictures", len(ids)) as step:
        for _, x, y in task.clean(BATCH, ids):
            if x.dim() == 2 and not x.is_floating_point():
                decode = decode or _decoder(task, spec)
                if decode is None:
                    return Looks(note="no text: the task has no decode(tokens) that gives an example's text")
                texts += [_snippet(decode(row)) for row in x]
            elif x.dim() == 4 and x.is_floating_point():
                kept.append(_small(x))
                if y.dim() == 3 and not y.is_floating_point():
                    maps.append(_small_map(y, kept[-1]))
            else:
                return Looks(note=f"no pictures: inputs of shape {list(x.shape[1:])} are no pictures")
            step(len(x))
    if texts:
        return Looks(texts=texts)
    return Looks(pictures=_bytes(torch.cat(kept)), maps=torch.cat(maps).numpy() if maps else None)


def _small(x: Tensor) -> Tensor:
    """[B, C, H, W] with at most LONGEST pixels a side, in one or three colours."""
    from torch.nn import functional as F

    scale = LONGEST / max(x.shape[2:])
    if scale < 1:
        x = F.interpolate(x, size=tuple(max(1, round(side * scale)) for side in x.shape[2:]), mode="area")
    return (x if x.shape[1] in (1, 3) else x.mean(1, keepdim=True)).half().cpu()


def _small_map(y: Tensor, picture: Tensor) -> Tensor:
    """Labels [B, H, W] with the size of a picture: the nearest pixel's, as labels have no means."""
    from torch.nn import functional as F

    return F.interpolate(y.unsqueeze(1).float(), size=tuple(picture.shape[2:]), mode="nearest")[:, 0].long().cpu()


def _bytes(x: Tensor) -> NDArray[np.uint8]:
    """Inputs are scaled in ways that nobody wrote down: each colour's range in these pictures becomes 0 ... 255."""
    import torch

    some = x[:RANGE_FROM].float()
    low, high = some.amin((0, 2, 3), keepdim=True), some.amax((0, 2, 3), keepdim=True)
    shown = ((x.float() - low) / (high - low).clamp(min=1e-6) * 255).round_().clamp_(0, 255).to(torch.uint8)
    found: NDArray[np.uint8] = (shown[:, 0] if shown.shape[1] == 1 else shown.permute(0, 2, 3, 1)).contiguous().numpy()
    return found


def _decoder(task: Any, spec: Mapping[str, Any]) -> Callable[[Any], str] | None:
    """From tokens to text: the task's own, or that of the vocabulary that a built-in task was made with."""
    own = getattr(task, "decode", None)
    if callable(own):
        return own  # type: ignore[no-any-return]
    from ..core import names
    from ..testbed.tasks.texts import book_vocabulary

    while isinstance(spec.get("base"), (str, Mapping)):
        base = spec["base"]
        spec = {"name": base} if isinstance(base, str) else base
    parameters = inspect.signature(names.resolve("task", str(spec["name"]))).parameters
    if ":" in str(spec["name"]) or "vocabulary" not in parameters:
        return None
    known = book_vocabulary(spec.get("vocabulary", parameters["vocabulary"].default), spec.get("folder"))
    return lambda row: known.decode(row.tolist())


def _snippet(text: str) -> str:
    short = " ".join(text.split())
    return short if len(short) <= SNIPPET else short[: SNIPPET - 1] + "…"


@contextlib.contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A function that counts what is done, shown as a bar on a terminal and nowhere else."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        row = bar.add_task(what, total=total)
        yield lambda count: bar.advance(row, count)
