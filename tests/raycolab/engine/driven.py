"""A scheduler at work on a world of slots and a store that commits: what follows from what, and what must never be.

Its rules are what happens to every sweep: trials begin, calls come, fail, and come late, the store commits. The rest is
in `test_machine` and `test_protocol`.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raycolab.engine.dispatch import Slot
from raycolab.engine.messages import Finished, Kill, LossCause, ScheduleOptions, State, Write
from raycolab.engine.scheduler import Scheduler
from raycolab.trials import FINAL_STATES, AttemptRow, Failure, Outcome, TrialRow, TrialState
from tests.raycolab.engine.world import MEMORY, Search, World

__all__ = ["Driven"]


class Driven(RuleBasedStateMachine):
    """One sweep, its store and its slots."""

    def __init__(self) -> None:
        super().__init__()
        self.store: dict[int, TrialRow] = {}
        self.stored_attempts: dict[tuple[int, int], AttemptRow] = {}
        self.stored_reports: set[tuple[int, int]] = set()
        self.now = 100.0
        self.slots: dict[str, World] = {}
        self.slot_count = 0
        self.reopened: set[int] = set()  # final trials that somebody wanted again
        self.writes: list[Write] = []
        self.finished: Finished | None = None
        self.asked_to_end = False
        self.options: ScheduleOptions
        self.scheduler: Scheduler
        self.search: Search

    def take_up(self) -> None:
        """A scheduler and a search over what the store has; the nodes are there."""
        self.search = Search(list(self.store.values()))
        attempts = list(self.stored_attempts.values())
        self.scheduler = Scheduler(list(self.store.values()), attempts, self.options, self.search)
        self.pump()

    def start_again(self) -> None:
        """What `resume` of a held sweep does."""
        self.finished = None
        self.slots.clear()
        self.take_up()

    def pump(self) -> None:
        """Do what the scheduler commands."""
        for command in self.scheduler.commands(self.now):
            assert self.finished is None, "a command after Finished"
            match command:
                case Kill(slot):
                    self.slots[slot].die(LossCause.KILLED)
                case Write():
                    self.writes.append(command)
                case Finished():
                    self.finished = command

    def arrive(self, slot: World, state: State) -> None:
        """The scheduler hears a call, and answers it if the slot still waits for that."""
        self.scheduler.hear(state, self.now)
        self.pump()
        slot.heard.append(state)
        plan = self.scheduler.plan(state)
        if plan.new:
            models = {self.store[trial.number].model for trial in plan.new}
            assert slot.models is None or models <= slot.models
        assert len(plan.hold) <= 1 or not slot.for_one
        if slot.alive and state in slot.calls:
            slot.calls.remove(state)
            slot.answers.append((state, plan))

    def answer(self, slot: World, which: int = 0) -> None:
        """One of the answers reaches the slot."""
        state, plan = slot.answers.pop(which)
        slot.protocol.answered(state, plan, 0.1)
        if plan.ends:
            assert slot.running is None, "a slot that runs a trial was told to end"
            slot.die(LossCause.ENDED)

    def exchange(self, slot: World) -> None:
        """The slot calls, is heard and answered."""
        if slot.alive:
            slot.call()
        while slot.calls:
            self.arrive(slot, slot.calls[0])
        while slot.answers:
            self.answer(slot)

    def tell_end(self, slot: World) -> None:
        """The scheduler hears of the end of a slot's process."""
        if slot.down is not None:
            self.scheduler.slot_down(slot.id, slot.down, self.now)
            slot.down = None
            self.pump()

    def alive(self) -> list[World]:
        """The slots whose processes run."""
        return [slot for slot in self.slots.values() if slot.alive]

    def begin(self, slot: World) -> None:
        """The slot begins the next trial it holds, unless it runs one."""
        if slot.running is not None or not slot.protocol.unstarted:
            return
        slot.running, slot.may_give_up = slot.protocol.take(), False
        assert slot.running is not None
        number = slot.running.number
        final = self.store[number].state in FINAL_STATES and number not in self.reopened
        assert not final, "a finished trial ran again"
        others = [each for each in self.alive() if each is not slot and each.running is not None]
        assert all(each.running is None or each.running.number != number for each in others), "a trial ran twice"

    def end(self, slot: World, failure: Failure | None, seconds: float) -> None:
        """The trial that the slot runs ends after so long."""
        if slot.running is None:
            return
        self.now += seconds
        good = TrialState.PRUNED if slot.may_give_up else TrialState.COMPLETE
        state = good if failure is None else TrialState.FAILED
        metrics = {"accuracy": slot.running.number / 100} if failure is None else {}
        begun_at, slot.clock = self.now - seconds + slot.clock, slot.next_clock
        slot.protocol.finished(Outcome(state, metrics, failure, begun_at, self.now + slot.clock))
        slot.running = None

    def commit(self, several: int) -> None:
        """The store takes the oldest writes, none of which may change what is final."""
        batch, self.writes = self.writes[:several], self.writes[several:]
        for write in batch:
            for row in write.trials:
                before = self.store[row.number]
                kept = before.state in FINAL_STATES and row.number not in self.reopened
                assert not kept or before == row, "a final row was rewritten"
                self.store[row.number] = row
            for report in write.reports:
                self.stored_reports.add((report.trial, report.step))
            for attempt in write.attempts:
                self.stored_attempts[attempt.trial, attempt.number] = attempt
        self.scheduler.committed(batch[-1].write_id, self.now)
        self.pump()

    def slot_comes(self, node: str, models: frozenset[str] | None = None, for_one: bool = False) -> None:
        """A slot starts and loads MAIN; it may be for some models only, or for one trial."""
        if len(self.alive()) >= 5:
            return
        self.slot_count += 1
        slot = World(f"slot-{self.slot_count}", node, models, for_one)
        self.slots[slot.id] = slot
        self.scheduler.node_up(node, self.now, MEMORY[node])
        self.scheduler.slot_starting(Slot(slot.id, node, models=models, for_one=for_one), self.now)
        self.pump()

    def one_round(self, failure: Failure | None = None) -> None:
        """Everything that can happen happens once, as it should, or every trial fails."""
        if not self.alive():
            self.slot_comes("head")
        for slot in list(self.slots.values()):
            self.tell_end(slot)
            self.exchange(slot)
        for slot in self.alive():
            self.end(slot, failure, 0.5)
            self.begin(slot)
        if self.writes:
            self.commit(len(self.writes))
        self.now += 0.1
        self.scheduler.tick(self.now)

    # ----- rules -----

    @precondition(lambda self: self.alive())
    @rule(data=st.data())
    def trial_starts(self, data: st.DataObject) -> None:
        """A slot begins the next trial it was given."""
        slot = data.draw(st.sampled_from(self.alive()))
        self.begin(slot)

    @precondition(lambda self: any(slot.protocol.is_call_due for slot in self.alive()))
    @rule(data=st.data())
    def a_call_leaves(self, data: st.DataObject) -> None:
        """A slot says how it stands; a second call may be under way at the same time."""
        slot = data.draw(st.sampled_from([slot for slot in self.alive() if slot.protocol.is_call_due]))
        slot.call()
        assert len(slot.calls) + len(slot.answers) <= 2

    @precondition(lambda self: any(slot.calls or slot.strays for slot in self.slots.values()))
    @rule(data=st.data())
    def a_call_arrives(self, data: st.DataObject) -> None:
        """In whatever order; one that failed in its slot's eyes, or whose slot is gone, may arrive late."""
        slot = data.draw(st.sampled_from([slot for slot in self.slots.values() if slot.calls or slot.strays]))
        state = data.draw(st.sampled_from(slot.calls + slot.strays))
        self.arrive(slot, state)
        if state in slot.strays:
            slot.strays.remove(state)

    @precondition(lambda self: any(slot.answers for slot in self.alive()))
    @rule(data=st.data())
    def an_answer_arrives(self, data: st.DataObject) -> None:
        """The newer one may come first."""
        slot = data.draw(st.sampled_from([slot for slot in self.alive() if slot.answers]))
        self.answer(slot, data.draw(st.integers(0, len(slot.answers) - 1)))

    @precondition(lambda self: any(slot.calls or slot.answers for slot in self.alive()))
    @rule(data=st.data())
    def a_call_fails(self, data: st.DataObject) -> None:
        """On its way, where it may still arrive later, or on its way back: the slot cannot tell."""
        slot = data.draw(st.sampled_from([slot for slot in self.alive() if slot.calls or slot.answers]))
        state = data.draw(st.sampled_from(slot.calls + [state for state, _ in slot.answers]))
        if state in slot.calls:
            slot.calls.remove(state)
            slot.strays.append(state)
        slot.answers = [each for each in slot.answers if each[0] is not state]
        slot.protocol.failed(state)

    @precondition(lambda self: any(slot.heard for slot in self.slots.values()))
    @rule(data=st.data())
    def a_call_is_heard_again(self, data: st.DataObject) -> None:
        """A call arrives a second time, from a slot that may be gone."""
        slot = data.draw(st.sampled_from([slot for slot in self.slots.values() if slot.heard]))
        before = dict(self.scheduler.book.rows)
        self.scheduler.hear(data.draw(st.sampled_from(slot.heard)), self.now)
        assert self.scheduler.book.rows == before, "a repeated call changed a row"
        self.pump()

    @precondition(lambda self: self.writes)
    @rule(several=st.integers(1, 4))
    def store_commits(self, several: int) -> None:
        """The store commits the oldest writes."""
        self.commit(several)

    # ----- what always holds -----

    @invariant()
    def every_waiting_trial_is_somewhere(self) -> None:
        """A trial that is not final waits, is held by one slot, or follows another."""
        if not hasattr(self, "scheduler"):
            return
        book = self.scheduler.book
        places = Counter(self.scheduler.dispatch)
        places.update(held.trial.number for slot in self.scheduler.slots.values() for held in slot.held.values())
        expected = Counter(number for number in book.unfinished if not book.is_follower(number))
        assert places == expected

    @invariant()
    def a_trial_is_in_one_slot_s_hands(self) -> None:
        """As the slots themselves have it, whatever the engine believes."""
        hands = Counter(
            ticket
            for slot in self.alive()
            for ticket in (*slot.protocol.unstarted, *([slot.running.ticket] if slot.running else ()))
        )
        assert max(hands.values(), default=1) == 1
        if hasattr(self, "scheduler"):
            numbers = Counter(
                held.trial.number
                for slot in self.scheduler.slots.values()
                for held in slot.held.values()
                if held.trial.ticket in hands
            )
            assert max(numbers.values(), default=1) == 1
