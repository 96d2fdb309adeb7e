"""What is true while the scheduler is told of it late, twice or never: slots that run trials, a search that minds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from raycolab.engine.book import MAX_LOST_ATTEMPTS
from raycolab.engine.messages import Assignment, LossCause, Plan, State
from raycolab.engine.slot import SlotProtocol
from raycolab.trials import FINAL_STATES, AttemptRow, Config, TrialRow, TrialState

__all__ = ["MEMORY", "MODELS", "NODES", "SERVED", "Search", "World", "assert_within_budgets"]

NODES = ["head", "joiner-1", "joiner-2"]
MODELS = ["svc", "forest"]
SERVED = [None, None, frozenset(MODELS[:1]), frozenset(MODELS[1:])]
MEMORY = {"head": 4, "joiner-1": 16, "joiner-2": None}
POOR = 0.2  # what reports less should be pruned


@dataclass
class World:
    """A slot as it is in reality: its own half of the protocol, and what is on its way between it and the engine."""

    id: str
    node: str
    models: frozenset[str] | None = None  # it runs only these
    for_one: bool = False
    alive: bool = True
    clock: float = 0.0  # how far its time of day is from the engine's ...
    next_clock: float = 0.0  # ... and will be when its trial ends
    running: Assignment | None = None
    may_give_up: bool = False  # the trial it runs was told so
    down: LossCause | None = None  # why it is gone, while the scheduler has not been told
    protocol: SlotProtocol = field(init=False)
    calls: list[State] = field(default_factory=list)  # on their way to the engine
    strays: list[State] = field(default_factory=list)  # failed as the slot sees it, and may arrive all the same
    answers: list[tuple[State, Plan]] = field(default_factory=list)  # on their way back
    heard: list[State] = field(default_factory=list)  # arrived, to be repeated

    def __post_init__(self) -> None:
        self.protocol = SlotProtocol(self.id)
        self.protocol.loaded({})

    def call(self) -> None:
        """Send what is due."""
        if self.protocol.is_call_due:
            state = self.protocol.next_state()
            assert state is not None
            self.calls.append(state)

    def die(self, cause: LossCause | None = None) -> None:
        """The process is gone; what it sent before may arrive all the same."""
        self.alive = False
        self.running = None
        self.down = cause
        self.strays += self.calls
        self.calls.clear()
        self.answers.clear()


class Search:
    """A search as the scheduler knows it, that minds whether it is told what is true."""

    def __init__(self, rows: list[TrialRow]) -> None:
        self.proposals: dict[int, Config] = {row.number: row.config for row in rows if row.config is not None}
        # The trials whose end it was made from, or told.
        self.over: set[int] = {row.number for row in rows if row.state in FINAL_STATES}

    def propose(self, row: TrialRow) -> Config:
        assert row.number not in self.over, "a proposal for a trial that is over"
        return self.proposals.setdefault(row.number, {"C": row.number, "drawn": len(self.proposals)})

    def repeated(self, number: int) -> None:
        raise AssertionError("every proposal is another one")

    def reported(self, number: int, step: int, value: float) -> bool:
        assert number not in self.over, "a report of a trial that is over"
        return value < POOR

    def ended(self, row: TrialRow) -> None:
        assert row.number not in self.over, "an end was told twice"
        assert row.state in FINAL_STATES
        assert row.attempts > 0
        self.over.add(row.number)

    def requeued(self, number: int) -> None:
        self.over.discard(number)


def assert_within_budgets(row: TrialRow, attempts: Sequence[AttemptRow], *, was_reopened: bool) -> None:
    """A trial that is over ran as often as it may, and completed once."""
    good = [attempt for attempt in attempts if attempt.outcome == TrialState.COMPLETE]
    ran_itself = row.state is TrialState.COMPLETE and row.attempts > 0
    assert len(good) == ran_itself or was_reopened, "a trial completes once"
    if not was_reopened:
        outcomes = Counter(attempt.outcome for attempt in attempts)
        assert outcomes[TrialState.LOST] <= MAX_LOST_ATTEMPTS, "a budget was overdrawn"
        assert outcomes[TrialState.FAILED] <= 1 + (row.state is TrialState.FAILED), "a second try for memory"
