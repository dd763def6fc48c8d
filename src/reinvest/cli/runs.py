"""`reinvest runs`, `runs tree` and `runs show`: what a store holds. Loads no torch."""

from __future__ import annotations

import math
from typing import Any

from jsonargparse import Namespace

from ..core.errors import InvalidValue, ReinvestError
from ..store import Run, Store
from ._output import Output, plural, size_text, table, time_text
from ._parser import Command, Parser, option, store_option

LIMIT = 30
BARS = "▁▂▃▄▅▆▇█"
WIDTH = 48
CURVE_ROWS = 12


def row(run: Run) -> dict[str, Any]:
    """What the list says of a run, as plain values."""
    return {
        "id": run.id,
        "identity": run.identity,
        "status": run.status,
        "task": run.task,
        "name": run.name,
        "seed": run.seed,
        "steps": run.steps,
        "seconds": run.seconds,
        "created": run.created,
        "bytes": run.bytes,
        "parents": run.parents,
        "last": run.last,
    }


def _quality(last: dict[str, dict[str, float | None]]) -> str:
    """The last value of the first metric on validation and on test."""
    found: list[str] = []
    for split in ("validation", "test"):
        for name, value in list(last.get(split, {}).items())[:1]:
            found.append(
                f"{name if not found else ''} {'diverged' if value is None else f'{value:.4g}'} {split}".strip()
            )
    return ", ".join(found) or "-"


def _cells(run: Run, sizes: bool) -> list[str]:
    cells = [
        run.id,
        run.status,
        run.task,
        run.name,
        str(run.seed),
        "-" if run.steps is None else str(run.steps),
        time_text(run.seconds),
        _quality(run.last),
        run.created[:16].replace("T", " "),
    ]
    return [*cells, size_text(run.bytes)] if sizes else cells


def _list_arguments(parser: Parser) -> None:
    store_option(parser)
    option(
        parser,
        "--where",
        type=str,
        metavar="FILTER",
        help=(
            "KEY=VALUE terms joined by 'and' (= != < > <= >=); "
            "keys: id identity name task status created seed steps seconds bytes"
        ),
    )
    option(parser, "--limit", type=int, metavar="N", help=f"show the newest N runs (text: {LIMIT}; --json: all)")
    parser.add_argument("--all", action="store_true", help="show all runs")
    parser.add_argument("--sizes", action="store_true", help="bytes of every run, and of the whole store")


def _list(options: Namespace, out: Output) -> int:
    limit = options.get("limit")
    if limit is not None and limit < 1:
        raise InvalidValue(f"--limit is 1 or more, got {limit}; write --all for everything")
    store = Store(options.store)
    found = store.runs(where=options.get("where"))[::-1]
    shown = found if options.all or (limit is None and out.as_json) else found[: limit or LIMIT]
    size = store.size() if options.sizes else None

    def text() -> str:
        if not found:
            which = f" that match {options.where!r}" if options.get("where") else ""
            return f"no runs{which} in {store.path}; 'reinvest demo' and 'reinvest train' make some"
        header = [
            "run",
            "status",
            "task",
            "name",
            "seed",
            "steps",
            "seconds",
            "quality",
            "begun (UTC)",
            *(["size"] if options.sizes else []),
        ]
        lines = [table(header, (_cells(run, options.sizes) for run in shown), right=(4, 5, 6, 9))]
        if len(found) > len(shown):
            lines.append(f"... and {len(found) - len(shown):,} more (--all)")
        if size is not None:
            lines.append(f"{plural(len(found), 'run')}; the store {store.path} takes {size_text(size)}")
        return "\n".join(lines)

    data = {"store": str(store.path), "total": len(found), "runs": [row(run) for run in shown] if out.as_json else []}
    out.give(data if size is None else {**data, "bytes": size}, text)
    return 0


LIST = Command(
    about=(
        "List the runs of a store, the newest first: id, status, task, name, seed, optimizer steps, training seconds,\n"
        "and the last quality on validation and on test.\n\n"
        "See also: reinvest runs tree --help, reinvest runs show --help."
    ),
    examples=(
        "reinvest runs",
        "reinvest runs --where 'task=digits and status=interrupted' --sizes",
        "reinvest runs --store /data/runs --where 'seconds>60' --all --json",
    ),
    arguments=_list_arguments,
    run=_list,
)


def _reuse(run: Run) -> list[dict[str, str]]:
    """How a run was made from others; [] where its description cannot be read, which `store verify` tells."""
    try:
        return run.reuse if run.parents else []
    except (ReinvestError, OSError):
        return []


def _lineage(lines: list[tuple[int, Run]]) -> list[str]:
    """For each line of the tree how the run re-uses the one that it stands under, "" where that was not noted."""
    above: list[str] = []
    found = []
    for depth, run in lines:
        del above[depth:]
        above.append(run.id)
        found.append(" and ".join(r["how"] for r in _reuse(run) if depth and r["run"] == above[depth - 1]))
    return found


def _tree(options: Namespace, out: Output) -> int:
    store = Store(options.store)
    lines = store.tree()
    ways = _lineage(lines)

    def text() -> str:
        if not lines:
            return f"no runs in {store.path}"
        return "\n".join(
            f"{'   ' * max(0, depth - 1)}{'└─ ' if depth else ''}{f'[{how}] ' if how else ''}"
            f"{run.id}  {run.status}  {run.task}  {run.name}  seed {run.seed}  {_quality(run.last)}"
            for (depth, run), how in zip(lines, ways, strict=True)
        )

    out.give(
        {
            "store": str(store.path),
            "runs": [{"depth": depth, **row(run), "reuse": _reuse(run)} for depth, run in lines] if out.as_json else [],
        },
        text,
    )
    return 0


TREE = Command(
    about=(
        "Show which run was made from which: a run stands below each of its parents, with the kind of re-use in\n"
        "brackets (records, clean pass, forward, warm start, ...) where a method of the run named the parent."
    ),
    examples=("reinvest runs tree", "reinvest runs tree --store /data/runs --json"),
    arguments=store_option,
    run=_tree,
)


def _show_arguments(parser: Parser) -> None:
    parser.add_argument("run", type=str, metavar="RUN", help="a run's id, or the first digits of it")
    store_option(parser)


def _files(run: Run) -> dict[str, int]:
    return {p.name: p.stat().st_size for p in sorted(run.path.iterdir()) if p.is_file() and not p.name.startswith(".")}


def _show(options: Namespace, out: Output) -> int:
    store = Store(options.store)
    run = store.get(options.run)
    children = [other.id for other in store.runs() if run.id in other.parents]
    data = {
        **row(run),
        "reuse": run.reuse,
        "children": children,
        "path": str(run.path),
        "config": run.config,
        "training": run.training,
        "facts": run.facts,
        "cost": run.cost,
        "curve": run.curve,
        "files": _files(run),
    }
    out.give(data, lambda: _page(data))
    return 0


def _page(data: dict[str, Any]) -> str:
    """The run as a person reads it."""
    import yaml

    def block(title: str, values: Any) -> list[str]:
        if not values:
            return []
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
        return ["", title, *(f"  {line}" for line in text.rstrip().split("\n"))]

    lines = [
        f"run {data['id']}: {data['name']}, task {data['task']}, seed {data['seed']}, {data['status']}",
        f"begun {data['created']}, {data['steps'] if data['steps'] is not None else 'unknown'} steps, "
        f"{time_text(data['seconds'])} of training, {_quality(data['last'])}",
        f"folder {data['path']}",
    ]
    for key in ("parents", "children"):
        if data[key]:
            lines.append(f"{key} {', '.join(data[key])}")
    lines += [f"re-uses {one['run']}: {one['how']}" for one in data["reuse"]]
    lines += block("recipe", data["config"])
    lines += _curves(data["curve"])
    # Seconds by kind of step are for the timing, not for a reader; --json has them.
    lines += block("cost (seconds, bytes)", {name: value for name, value in data["cost"].items() if name != "strata"})
    lines += block("facts", data["facts"])
    lines += ["", "files", *(f"  {name}  {size_text(size)}" for name, size in data["files"].items())]
    return "\n".join(lines)


def _curves(curve: list[dict[str, Any]]) -> list[str]:
    """One small line drawing for each split and metric, and the last entries as a table."""
    found: dict[tuple[str, str], list[float]] = {}
    for entry in curve:
        for name, value in entry.items():
            if name not in ("step", "epoch", "split", "seconds"):
                found.setdefault((entry["split"], name), []).append(value)
    lines = ["", "curve"] if found else []
    for (split, name), values in found.items():
        ends = f"{values[0]:.4g} to {values[-1]:.4g}" if len(values) > 1 else f"{values[0]:.4g}"
        lines.append(f"  {split:<10} {name:<10} {_spark(values)}  {ends}")
    watched = [e for e in curve if e["split"] != "train"][-CURVE_ROWS:]
    if watched:
        metrics = list(dict.fromkeys(k for e in watched for k in e if k not in ("step", "epoch", "split", "seconds")))
        rows = [
            [
                e["split"],
                str(e.get("step") or "-"),
                time_text(e.get("seconds")),
                *(f"{e[m]:.4g}" if m in e else "-" for m in metrics),
            ]
            for e in watched
        ]
        lines += [
            f"  {line}"
            for line in table(["split", "step", "seconds", *metrics], rows, right=range(1, 3 + len(metrics))).split(
                "\n"
            )
        ]
    return lines


def _spark(values: list[float]) -> str:
    """Values as a row of bars, at most 48; "!" where a value is not finite."""
    every = max(1, math.ceil(len(values) / WIDTH))
    kept = values[::-1][::every][::-1]
    finite = [v for v in kept if math.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    span = (high - low) or 1.0
    return "".join(BARS[round((v - low) / span * (len(BARS) - 1))] if math.isfinite(v) else "!" for v in kept)


SHOW = Command(
    about=(
        "Show one run: recipe, curve, cost (seconds, bytes), hardware and software facts, parents with the kind of\n"
        "re-use, children, files."
    ),
    examples=("reinvest runs show 3f2a", "reinvest runs show 3f2a91c0 --store /data/runs --json"),
    arguments=_show_arguments,
    run=_show,
)
