"""The contract every method keeps, as tests to inherit.

    class TestMine(MethodContract):
        method = Mine
        bad = ({"strength": -1},)

The clauses are those of the design; each test says which one it is.
"""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from ..core.errors import Conflict, InvalidValue
from ..core.method import PHASES, Method, overrides, phases_of
from ..core.protocols import current_recorder
from ..loop.train import train
from ..methods.augment.cutout import Cutout
from ..methods.gradients.clipping import GradientClipping
from ..methods.targets.label_smoothing import LabelSmoothing
from ..methods.weights.ema import EMA
from ..store import Store
from .compare import differences, distance, generators, traces
from .library import LibrarySetup
from .loops import ChainLoop, HandLoop, MeanFirstLoop, Setup
from .pair import run_pair

ARXIV = re.compile(r"\d{4}\.\d{4,5}|[a-z-]+/\d{7}|none")
TOLERANCE = 1e-6


class MethodContract:
    """Inherit, set `method` and `bad`, and let pytest collect the subclass; the rest has defaults."""

    method: ClassVar[type[Method]]
    neutral: ClassVar[Mapping[str, Any] | None] = None
    """Arguments with which the method changes nothing (default: the class's own `neutral`)."""
    example: ClassVar[Mapping[str, Any] | None] = None
    """Arguments with which the method acts in a run of nine steps (default: the class's own `example`)."""
    bad: ClassVar[Sequence[Mapping[str, Any]]] = ()
    """Arguments that must be refused."""
    needed: ClassVar[Mapping[str, Any]] = {}
    """Arguments without which the method cannot be made, for the refusals in `bad`."""
    function_form: ClassVar[type[HandLoop] | None] = None
    """A hand-written loop that does with plain functions what the method does with `example`."""
    setup: ClassVar[Setup] = Setup()

    # ---- what the clauses are made of --------------------------------------------------------------------------

    def make(self) -> Method:
        """The method, acting."""
        return self.method(**(self.method.example if self.example is None else self.example))

    def make_neutral(self) -> Method:
        """The method, changing nothing."""
        return self.method(**(self.method.neutral if self.neutral is None else self.neutral))

    def two_processes(self) -> list[dict[str, Any]]:
        """Results of both ranks of a pair of processes that trains with `make()` on the setup without batch norm."""
        arguments = dict(self.method.example if self.example is None else self.example)
        return run_pair([(self.method, arguments)], self.setup.plain())[0]

    def companions(self) -> list[Method]:
        """Methods of other phases to be put beside this one."""
        own = set(phases_of(self.make()))
        others: list[Method] = [Cutout(0.5), LabelSmoothing(0.1), GradientClipping(norm=1.0), EMA(decay=0.5)]
        excluded = set(self.method.card.conflicts)
        return [m for m in others if not own & set(phases_of(m)) and m.name not in excluded]

    # ---- clauses -----------------------------------------------------------------------------------------------

    def test_01_neutral_setting_is_the_plain_loop(self) -> None:
        """Clause 1: bit for bit the plain loop, whether its losses are averaged last or first."""
        found = ChainLoop(self.setup, [self.make_neutral()]).run().result()
        assert differences(found, HandLoop(self.setup).run().result()) == []
        assert differences(found["model"], MeanFirstLoop(self.setup).run().result()["model"]) == []

    def test_01_the_example_acts(self) -> None:
        """Without this the other clauses would say little; a diagnostic finds something and changes nothing."""
        method = self.make()
        loop = ChainLoop(self.setup, [method])
        with loop.attached():
            findings = loop.train() and method.findings()
        plain = HandLoop(self.setup).run().result()
        if self.method.diagnostic:
            assert findings and differences(loop.result(), plain) == []
        else:
            assert distance(loop.result()["model"], plain["model"]) > 1e-4

    def test_02_own_loop_is_library_loop(self, tmp_path: Path) -> None:
        """Clause 2: `train` with the same recipe leaves the same weights, bit for bit."""
        setup = LibrarySetup()
        own = ChainLoop(setup, [self.make()]).run().result()
        run = train(setup.recipe([self.make()]), setup.seed, Store(tmp_path / "runs"), device="cpu", progress=False)
        assert run.status == "finished" and run.steps == setup.total_steps
        assert differences(dict(run.weights()), own["model"]) == []

    def test_03_function_form_is_class_form(self) -> None:
        """Clause 3: a hand-written loop with the plain function gives the same bits."""
        if self.function_form is None:
            import pytest

            pytest.skip("no function form given")
        found = ChainLoop(self.setup, [self.make()]).run().result()
        assert differences(found, self.function_form(self.setup).run().result()) == []

    def test_04_resumed_in_mid_epoch_is_uninterrupted(self) -> None:
        """Clause 4: saved, loaded into fresh objects and continued, bit for bit."""
        whole = ChainLoop(self.setup, [self.make()]).run().result()
        per_epoch = self.setup.examples // self.setup.batch_size
        for stop in (1, self.setup.total_steps // 2 + 1, per_epoch * (self.setup.epochs - 1)):
            first, second = (ChainLoop(self.setup, [self.make()]) for _ in range(2))
            with first.attached():
                written = first.train(until=stop).save()
            with second.attached():
                torch.manual_seed(99)
                second.load(written)
                second.train()
            assert differences(second.result(), whole) == [], f"stopped after step {stop}"

    def test_05_parts_are_the_whole_batch(self) -> None:
        """Clause 5: gradients accumulated over parts, within 1e-6; refused where a batch is evaluated twice."""
        setup = self.setup.plain()
        if self.method.needs_closure:
            import pytest

            with pytest.raises(Conflict, match="part"):
                ChainLoop(setup, [self.make()], parts=2).run()
            return
        whole = ChainLoop(setup, [self.make()]).run().result()
        for parts in (2, 4):
            assert distance(ChainLoop(setup, [self.make()], parts=parts).run().result(), whole) <= TOLERANCE

    def test_06_two_processes_are_one(self) -> None:
        """Clause 6: equal for equal virtual nodes; for any number of them unless the method couples examples."""
        setup = self.setup.plain()
        one = ChainLoop(setup, [self.make()], nodes=2).run().result()
        for rank, found in enumerate(self.two_processes()):
            assert distance(found, one) <= TOLERANCE, f"rank {rank}"
        if not self.method.couples_examples:
            assert differences(ChainLoop(setup, [self.make()], nodes=1).run().result(), one) == []

    def test_07_draws_only_from_its_own_streams(self) -> None:
        """Clause 7: the global generators are neither moved nor read."""
        setup = self.setup.plain()
        results = []
        for seed in (1, 2):
            loop = ChainLoop(setup, [self.make()])
            with loop.attached():
                torch.manual_seed(seed)
                before = generators()
                loop.train()
                assert differences(generators(), before) == []
            results.append(loop.result())
        assert differences(*results) == []

    def test_08_order_across_phases_does_not_matter(self) -> None:
        """Clause 8: listed before or after methods of other phases."""
        forward = ChainLoop(self.setup, [self.make(), *self.companions()]).run().result()
        backward = ChainLoop(self.setup, [*reversed(self.companions()), self.make()]).run().result()
        assert differences(forward, backward) == []

    def test_09_bad_values_are_refused(self) -> None:
        """Clause 9: the rule, the value received and what to do, in one sentence."""
        import pytest

        has_arguments = bool(inspect.signature(self.method).parameters)
        assert self.bad or not has_arguments, "list the arguments that must be refused in `bad`"
        for arguments in self.bad:
            with pytest.raises(InvalidValue) as caught:
                self.method(**{**self.needed, **arguments})
            text = str(caught.value)
            received = [repr(value) for value in arguments.values()]
            assert ", got " in text and ";" in text, text
            assert any(value in text for value in received), f"{received} not in: {text}"
        with pytest.raises(InvalidValue, match="takes the arguments"):
            self.method(**self.needed, no_such_argument=1)

    def test_10_finish_leaves_nothing_behind(self) -> None:
        """Clause 10: no hook, buffer, attribute or flag, on the model, the optimizer or the method itself."""
        surgery = self.method.changes_model
        plain = HandLoop(self.setup).run()
        method = self.make()
        before = dict(vars(method))
        loop = ChainLoop(self.setup, [method]).run()
        wanted = traces(plain.model, plain.optimizer, surgery=surgery)
        assert differences(traces(loop.model, loop.optimizer, surgery=surgery), wanted) == []
        assert differences(vars(method), before) == []
        broken = ChainLoop(self.setup, [method])
        try:
            with broken.attached():
                broken.train(until=2)
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        assert differences(traces(broken.model, broken.optimizer, surgery=surgery), wanted) == []
        assert differences(vars(method), before) == []

    def test_10_an_instance_serves_again(self) -> None:
        """A second run with the same instance is the first one again: `start` resets everything."""
        method = self.make()
        first = ChainLoop(self.setup, [method]).run().result()
        assert differences(ChainLoop(self.setup, [method]).run().result(), first) == []

    def test_11_state_survives_save_and_load(self) -> None:
        """Clause 11: through torch.save and a load that runs no code; later steps do not change a state handed out."""
        first, second = self.make(), self.make()
        loop = ChainLoop(self.setup, [first])
        with loop.attached():
            loop.train(until=4)
            state = first.state_dict()
            written = io.BytesIO()
            torch.save(state, written)
            loaded = torch.load(io.BytesIO(written.getvalue()), weights_only=True)
            loop.train(until=5)
            assert differences(state, loaded) == []
        fresh = ChainLoop(self.setup, [second])
        with fresh.attached():
            second.load_state_dict(loaded)
            assert differences(second.state_dict(), loaded) == []
            fresh.train(until=1)

    def test_12_card_is_complete(self) -> None:
        """Clause 12: paper, year, arXiv id, phase, cost per step, conflicts, what breaks it."""
        card = self.method.card
        for name in ("title", "paper", "cost", "breaks"):
            assert getattr(card, name).strip(), f"the card's {name} is empty"
        assert 1950 <= card.year <= 2100
        assert ARXIV.fullmatch(card.arxiv) and all(ARXIV.fullmatch(r) for r in card.references)
        assert card.phase in ("start", *PHASES) and card.phase == phases_of(self.make())[0]
        assert card.domains and isinstance(card.conflicts, tuple) and self.method.__name__ not in card.conflicts
        assert isinstance(self.method.revision, int) and self.method.revision >= 1
        for documented in (self.method, *(getattr(self.method, p) for p in PHASES if overrides(self.make(), p))):
            assert inspect.getdoc(documented)

    def test_13_without_a_horizon_a_short_run_begins_a_longer_one(self) -> None:
        """Clause 13: bit for bit, up to where the short run ends; a method of which that is not true has `horizon`."""
        if self.make().horizon:
            return
        longer = ChainLoop(replace(self.setup, epochs=2 * self.setup.epochs), [self.make()])
        with longer.attached():
            longer.train(until=self.setup.total_steps)
        assert differences(longer.result(), ChainLoop(self.setup, [self.make()]).run().result()) == []

    # ---- beyond the thirteen: what every user's loop may do ------------------------------------------------------

    def test_a_specification_builds_the_same_method(self) -> None:
        """Plain values from which a recipe builds the method again."""
        import json

        method = self.make()
        spec = json.loads(json.dumps(method.spec()))
        arguments = {k: v for k, v in spec.items() if k != "name"}
        assert differences(vars(self.method(**arguments)), vars(method)) == []
        assert repr(method).startswith(self.method.__name__)

    def test_dict_batches_are_tuples(self) -> None:
        """A loader of dicts, as in Hugging Face code, gives the same bits."""
        tuples = ChainLoop(self.setup, [self.make()]).run().result()
        assert differences(ChainLoop(self.setup, [self.make()], dicts=True).run().result(), tuples) == []

    def test_a_scaler_changes_nothing(self) -> None:
        """A loss scaled by a power of two gives the same bits: gradients are unscaled before anything looks at them."""
        plain = ChainLoop(self.setup, [self.make()]).run().result()
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        assert differences(ChainLoop(self.setup, [self.make()], scaler=scaler).run().result(), plain) == []

    def test_recording_changes_nothing(self) -> None:
        """The recorder watches; blended examples are not shown to it, nor second evaluations."""
        plain = ChainLoop(self.setup, [self.make()]).run().result()
        seen = _Seen()
        token = current_recorder.set(seen)
        try:
            assert differences(ChainLoop(self.setup, [self.make()]).run().result(), plain) == []
        finally:
            current_recorder.reset(token)
        assert seen.batches <= self.setup.total_steps

    def test_kinds_are_few_and_plain(self) -> None:
        """Kinds of steps are strata of the clock: hashable, with a short text, at most twelve of them."""
        loop = ChainLoop(self.setup, [self.make()])
        with loop.attached():
            loop.train()
            strata = loop.chain.clock["strata"]
        assert len({row["kind"] for row in strata}) <= 12
        assert all("object at" not in row["kind"] and len(row["kind"]) <= 60 for row in strata)

    def test_a_compiled_model_gives_the_same_weights(self) -> None:
        """torch.compile, traced but not lowered; surgery is attached before compiling and refuses a compiled model."""
        setup = self.setup.plain()
        eager = ChainLoop(setup, [self.make()]).run().result()
        torch._dynamo.reset()
        loop = ChainLoop(setup, [self.make()], backend="aot_eager").run()
        assert distance(loop.result(), eager) <= TOLERANCE
        if self.method.changes_model:
            import pytest

            loop.attached_to = loop.forward
            with pytest.raises(Conflict, match="compiled"):
                loop.run()
        torch._dynamo.reset()


class _Seen:
    """A recorder that only counts."""

    def __init__(self) -> None:
        self.batches = 0

    @property
    def observing(self) -> bool:
        return True

    def begin(self, about: dict[str, Any]) -> None:
        assert about["total_steps"] > 0

    def observe(
        self,
        epoch: int,
        ids: torch.Tensor,
        losses: torch.Tensor,
        output: torch.Tensor,
        targets: torch.Tensor,
        valid: torch.Tensor | None,
    ) -> None:
        assert len(ids) == len(losses) == len(output) == len(targets)
        self.batches += 1

    def end(self, about: dict[str, Any]) -> None:
        assert about["steps"] > 0

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert not state
