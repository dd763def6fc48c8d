"""What a loader says of its data, as the records keep it: columns by id, and text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ..core.view import TaskView

MOST_NAMES = 10_000
PROBE_COLUMNS = ("ids", "kinds", "reference", "labels")
"""Of probes [P]; stored as probe_ids, ..., with the names of the kinds in about["probes"]."""


def of_data(view: TaskView | None, examples: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What the loader said of its data: the tables hashes and roles [N], its probes [P], and text."""
    import torch

    if view is None:
        return {}, {}
    about = {name: getattr(view, name) for name in ("namespace", "fingerprint", "preprocessing")}
    about["moves"] = "true" if view.moves else "false"
    if view.classes is not None:
        about["classes"] = str(view.classes)
    if view.class_names is not None and len(view.class_names) <= MOST_NAMES:
        about["class_names"] = json.dumps([str(name) for name in view.class_names], ensure_ascii=False)
    tables = {}
    for name, column, kind in (("hashes", view.hashes, torch.int64), ("roles", view.roles, torch.uint8)):
        if column is None:
            continue
        try:
            table = column().to("cpu", kind)
            if table.shape != (examples,):
                raise ValueError(f"shape {list(table.shape)} for {examples} examples")
        # A run that has been trained is not lost for a column that its loader cannot give.
        except Exception as error:
            about[name] = f"not kept: {type(error).__name__}: {error}"
        else:
            tables[name] = table
    if view.probes is not None:
        tables |= {f"probe_{name}": getattr(view.probes, name).cpu() for name in PROBE_COLUMNS}
        about["probes"] = json.dumps(list(view.probes.names), ensure_ascii=False)
    return tables, about
