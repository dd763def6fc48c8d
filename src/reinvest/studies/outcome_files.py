"""Files beside the outcomes: subgroups that are read from a CSV file, and every vote written to one."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import InvalidValue
from ..core.files import replacing
from ..dynamics.outcomes import self_consistency
from .outcome_figures import Votes

Groups = Tensor | Mapping[int, Any] | str | Path


def group_names(groups: Groups | None, ids: Tensor) -> list[str] | None:
    """The subgroup of each example `ids` [N], as text; None for None.

    groups: int64 [N], one an example of the split in its order; or {id: name}; or a CSV file with the columns id and group,
    where ids outside the split do no harm. Raises InvalidValue where an example has no group, or two.
    """
    if groups is None:
        return None
    if isinstance(groups, Tensor):
        if groups.dtype != torch.int64 or groups.shape != ids.shape:
            raise InvalidValue(
                f"groups are int64, one an example of the split [{len(ids)}], got {groups.dtype} {list(groups.shape)}; pass "
                "{id: group} for a part in another order"
            )
        return [str(group) for group in groups.tolist()]
    known = {int(k): str(v) for k, v in groups.items()} if isinstance(groups, Mapping) else read_groups(groups)
    without = [k for k in ids.tolist() if k not in known]
    if without:
        raise InvalidValue(
            f"every example of the split has a group, got none for {len(without):,} of {len(ids):,} (ids "
            f"{', '.join(map(str, without[:5]))}{', ...' if len(without) > 5 else ''}); add them, under a group 'other' perhaps"
        )
    return [known[k] for k in ids.tolist()]


def read_groups(path: str | Path) -> dict[int, str]:
    """The groups in a CSV file with a header that names the columns id and group; others are not read.

    Raises InvalidValue for a file that is absent or not of that form, and for an id with two groups.
    """
    file = Path(path)
    if not file.is_file():
        raise InvalidValue(
            f"groups are in a CSV file with the columns id and group, got {str(path)!r}, which does not exist"
        )
    try:
        return _read_groups(file)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidValue(
            f"groups are in a CSV file of UTF-8 text, got {file.name}, which is not ({error}); save it as CSV UTF-8"
        ) from None


def _read_groups(file: Path) -> dict[int, str]:
    found: dict[int, str] = {}
    with file.open(encoding="utf-8-sig", newline="") as opened:
        reader = csv.DictReader(opened)
        if not {"id", "group"} <= set(reader.fieldnames or ()):
            raise InvalidValue(
                f"groups have the columns id and group, got {', '.join(reader.fieldnames or ()) or 'nothing'} in {file.name}; "
                "write them into its first line"
            )
        for row in reader:
            number, group = (row["id"] or "").strip(), (row["group"] or "").strip()
            if not number.isascii() or not number.isdigit() or not group:
                raise InvalidValue(
                    f"a line of groups is a whole number and a name, got {number!r} and {group!r} in line {reader.line_num} of "
                    f"{file.name}; mend that line"
                )
            if found.setdefault(int(number), group) != group:
                raise InvalidValue(
                    f"an example has one group, got {found[int(number)]!r} and {group!r} for id {number} in {file.name}; keep one"
                )
    return found


def write_votes(votes: Votes, path: str | Path, groups: list[str] | None = None) -> Path:
    """One line an example: id, label, what each run says (a column each, by its id), self_consistency, and its group if
    there are groups. Written under a temporary name first; returns the path."""
    consistency = self_consistency(votes.predictions).tolist()
    said = votes.predictions.T.tolist()
    head = ["id", "label", *votes.runs, "self_consistency", *([] if groups is None else ["group"])]
    return write_table(
        path,
        head,
        (
            [number, label, *said[place], f"{consistency[place]:.6g}", *([] if groups is None else [groups[place]])]
            for place, (number, label) in enumerate(zip(votes.ids.tolist(), votes.labels.tolist(), strict=True))
        ),
    )


def write_table(path: str | Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """A CSV file with this first line, under a temporary name first; returns the path."""
    with replacing(path, newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)
    return Path(path)
