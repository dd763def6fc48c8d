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
from ._verdicts import exit_code, print_table

if TYPE_CHECKING:
    from ..evaluation.compare import Listener, Verdicts
    from ..evaluation.costs import Prices
    from ..evaluation.looks import Look
    from ..evaluation.outcome import Verdict
    from ..evaluation.plan import Job
    from ..evaluation.study import Study

QUIET_SECONDS = 15.0
ASK_ABOVE_HOURS = 1.0
"""Hours of training from which on a terminal is asked first."""


class Display:
    """Runs done and time left on standard error: a bar on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self.total = self.done = 0
        self.work = self.worked = 0.0
        self._begun = self._said = time.monotonic()
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
        self.total, self.work = len(todo), sum(map(_amount, todo))
        self._begun = time.monotonic()
        print(
            f"{plural(len(jobs), 'run')}, {len(jobs) - len(todo):,} of them in the store already",
            file=sys.stderr,
            flush=True,
        )
        if self._bar is not None and todo:
            self._row = self._bar.add_task("training", total=self.work, count=f"0/{self.total}")

    def finished(self, job: Job) -> None:
        """One more run is in the store."""
        self.done, self.worked = self.done + 1, self.worked + _amount(job)
        if self._bar is not None:
            self._bar.update(self._row, completed=self.worked, count=f"{self.done}/{self.total}")
        left = (time.monotonic() - self._begun) * (self.work - self.worked) / self.worked
        self._say(f"training: {self.done}/{self.total} runs, about {time_text(left)} left", always=False)

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


def _amount(job: Job) -> float:
    from ..core.duration import Duration

    return Duration.parse(job.duration).amount


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


def machine_of(options: Namespace) -> dict[str, Any]:
    """Where runs execute, as the options say."""
    return {"workers": options.get("workers"), "threads": options.get("threads"), "device": options.device}
