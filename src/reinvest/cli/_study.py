"""What `demo` and `compare` share: a study is run under a progress display, judged, and its report written."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from ..core.errors import InvalidValue
from ._output import Output, plural, time_text
from ._parser import Parser, option
from ._verdicts import exit_code, print_table

if TYPE_CHECKING:
    from ..evaluation.compare import Listener, Verdicts
    from ..evaluation.costs import Prices
    from ..evaluation.looks import Look
    from ..evaluation.outcome import Verdict
    from ..evaluation.plan import Job
    from ..evaluation.study import Study

QUIET_SECONDS = 15.0
MEASURED = 0.05
"""Share of the work that is done after the first run before a time left is told."""
ASK_ABOVE_HOURS = 1.0
"""Hours of training from which on a terminal is asked first."""


class Display:
    """Runs done and time left on standard error: a bar on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self.total = self.done = 0
        self.work = self.worked = 0.0
        self._open: dict[str, float] = {}
        self._unknown = 0
        self._first: tuple[float, float] | None = None
        self._said = time.monotonic()
        self._bar: Any = None
        self._row: Any = None
        self._clock: Any = None

    def start(self) -> None:
        """Begin to show; on a terminal as bars."""
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[count]}"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _say(self, text: str, *, always: bool = True) -> None:
        now = time.monotonic()
        if self._bar is None and (always or now - self._said >= QUIET_SECONDS):
            self._said = now
            print(text, file=sys.stderr, flush=True)

    def planned(self, jobs: Sequence[Job], todo: Sequence[Job]) -> None:
        """Work is counted in epochs (or steps), so that the time left is right for runs of unequal length."""
        self._open = _amounts(todo)
        unknown = [job for job in todo if not job.identity]
        self._unknown = len(unknown)
        self.total = len(self._open) + self._unknown
        self.work = sum(self._open.values()) + sum(map(_amount, unknown))
        runs = len(_amounts(jobs)) + sum(not job.identity for job in jobs)
        print(
            f"{runs_text(runs, len(jobs))}, {runs - self.total:,} of them in the store already",
            file=sys.stderr,
            flush=True,
        )
        if self._bar is not None and todo:
            self._row = self._bar.add_task("training", total=self.work, count=f"0/{self.total}")

    def finished(self, job: Job) -> None:
        """One more point is in the store, and with the first of a run's points the run."""
        if job.identity in self._open:
            worked = self._open.pop(job.identity)
        elif self._unknown:
            self._unknown, worked = self._unknown - 1, _amount(job)
        else:
            return
        self.done, self.worked = self.done + 1, self.worked + worked
        if self._bar is not None:
            self._bar.update(self._row, completed=self.worked, count=f"{self.done}/{self.total}")
        left = self._left(time.monotonic())
        told = "time left not known yet" if left is None else f"about {time_text(left)} left"
        self._say(f"training: {self.done}/{self.total} runs, {told}", always=False)

    def _left(self, now: float) -> float | None:
        """Seconds, by the pace since the first run ended (before lies the start of the workers); None before much of it."""
        if self._first is None:
            self._first = now, self.worked
        begun, before = self._first
        measured = self.worked - before
        if measured < MEASURED * self.work or not now > begun:
            return None
        return (now - begun) * (self.work - self.worked) / measured

    def timing(self, turn: int, rounds: int) -> None:
        """The paired timing block has finished a round (0: the one that only warms up)."""
        if turn == 0:
            self._say("timing the arms side by side")
            if self._bar is not None:
                self._clock = self._bar.add_task("timing the arms side by side", total=rounds, count="")
        if self._bar is not None:
            self._bar.update(self._clock, completed=turn, count=f"{turn}/{max(turn, rounds)} rounds")

    def looked(self, look: Look, verdicts: Mapping[str, Verdict]) -> None:
        """The study has been judged at one of its declared looks."""
        found = ", ".join(f"{arm} {v.verdict}" for arm, v in verdicts.items())
        self._say(f"look {look.place + 1} of {len(look.looks)}, at {look.seeds} seeds: {found}")


def _amounts(jobs: Sequence[Job]) -> dict[str, float]:
    """The work of every run of these jobs: of one that stands for several durations that of the longest.

    Jobs without an identity (of sequences, whose later recipes are not known yet) are a run each and left out.
    """
    found: dict[str, float] = {}
    for job in jobs:
        if job.identity:
            found[job.identity] = max(_amount(job), found.get(job.identity, 0.0))
    return found


def _amount(job: Job) -> float:
    from ..core.duration import Duration
    from ..evaluation.onerun import COOLDOWN

    return Duration.parse(job.duration).amount * (1.0 if job.trunk is None else COOLDOWN)


def runs_text(runs: int, points: int) -> str:
    """ "24 runs", and where one run stands for several points "6 runs for 24 points"."""
    return plural(runs, "run") + ("" if points == runs else f" for {plural(points, 'point')}")


@contextlib.contextmanager
def listening() -> Iterator[Listener]:
    """A listener that shows progress on standard error while the block lasts."""
    from ..evaluation.compare import Listener

    display = Display()
    display.start()
    try:
        yield Listener(planned=display.planned, done=display.finished, timing=display.timing, looked=display.looked)
    finally:
        display.stop()


def calibrated(study: Study, folder: str, runs: int, **machine: Any) -> None:
    """Train separate runs of the baseline that say how far points of one-run curves are off."""
    from ..evaluation.calibrating import calibrate
    from ..store import Store

    with listening() as listener:
        calibrate(study, Store(folder), runs, planned=listener.planned, on_done=listener.done, **machine)


def run_and_report(
    study: Study, folder: str, file: Path, out: Output, *, reproduce: str, prices: Prices | None = None, **settings: Any
) -> int:
    """Run a study with the runs of the store in `folder`, print the verdicts and write the report to `file`.

    prices: of the devices, for its costs. settings: workers, device, max_hours of `run_study`. Returns the exit code.
    """
    from ..evaluation.compare import run_study
    from ..evaluation.costs import priced
    from ..store import Store

    begun = time.monotonic()
    with listening() as listener:
        verdicts = run_study(study, Store(folder), listener=listener, reproduce=reproduce, **settings)
    if prices is not None and verdicts.result["costs"]:
        verdicts.result = priced(verdicts.result, prices)
    verdicts.report(file)
    print_table(verdicts.result, out)
    out.give(
        _answer(verdicts, file),
        lambda: "\n".join(
            ["", *_smallest(verdicts), *_clock(verdicts.result), *_files(file, time.monotonic() - begun)]
        ),
    )
    return exit_code([v.verdict for v in verdicts.values()])


def _answer(verdicts: Verdicts, file: Path) -> dict[str, Any]:
    result = verdicts.result
    return {
        "title": result["title"],
        "baseline": result["baseline"],
        "verdicts": {arm: v.to_dict() for arm, v in verdicts.items()},
        "timing": result["timing"],
        "systems": result.get("systems") or {},
        "cost": result["cost"],
        "costs": result["costs"],
        "report": str(file),
        "result": str(file.with_suffix(".json")),
    }


def _smallest(verdicts: Verdicts) -> list[str]:
    seen = [f"{arm} {v.smallest_effect:.3g}x" for arm, v in verdicts.items() if v.smallest_effect == v.smallest_effect]
    return [f"Smallest speed-up that this study finds four times in five: {', '.join(seen)}."] if seen else []


def _clock(result: Mapping[str, Any]) -> list[str]:
    """The standing check of the clock: the baseline timed against itself."""
    again = (result["timing"] or {}).get("again")
    if not again:
        return []
    return [
        f"The clock against itself: a second {result['baseline']} takes {again['ratio']:.3f} of its time "
        f"({again['ratio_low']:.3f} to {again['ratio_high']:.3f}; 1 in truth)."
    ]


def _files(file: Path, seconds: float) -> list[str]:
    return [
        f"Report: {file}",
        f"Every figure in it: {file.with_suffix('.json')}",
        f"Took {time_text(seconds)}; run again, it finds its runs in the store.",
    ]


def check_study_options(options: Namespace) -> None:
    """Refuse a limit of no hours, and let the study's factories be found beside its file."""
    hours = options.get("max_hours")
    if hours is not None and not hours > 0:
        raise InvalidValue(f"--max-hours is above 0, got {hours:g}; leave it out for no limit")
    beside = str(Path(options.study).resolve().parent)
    if beside not in sys.path:
        sys.path.append(beside)


def asks(yes: bool, out: Output) -> bool:
    """Whether somebody is there to be asked, and wants to be."""
    return not yes and not out.as_json and sys.stdin.isatty() and sys.stderr.isatty()


def agreed(runs: int, hours: float) -> bool:
    """Whether whoever sits at the terminal agrees to train for so long; short work is not asked about."""
    if hours <= ASK_ABOVE_HOURS:
        return True
    print(f"{runs:,} runs, about {hours:.1f} hours; go on? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def prices_option(parser: Parser, does: str) -> None:
    """--prices, a table of what devices cost."""
    option(
        parser,
        "--prices",
        type=str,
        metavar="FILE.yaml",
        help=f"currency, and per_hour: the price of an hour by device; {does} (devices: reinvest runs show)",
    )


def prices_of(options: Namespace) -> Prices | None:
    """The prices, refused before anything is trained if this machine's device has none."""
    if not options.get("prices"):
        return None
    from ..evaluation.costs import read_prices

    prices = read_prices(options.prices)
    prices.of(device_of(options))
    return prices


def device_of(options: Namespace) -> str:
    """The name of the device that the options choose, as runs keep it."""
    from ..core.hardware import facts
    from ..loop.train import device_named

    return str(facts(device_named(options.device, "a study trains"))["hardware"]["device"])


def machine_of(options: Namespace) -> dict[str, Any]:
    """Where runs execute, as the options say."""
    return {"workers": options.get("workers"), "threads": options.get("threads"), "device": options.device}
