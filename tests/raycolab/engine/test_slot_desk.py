"""The slot's desk: what becomes of words and reports between the trial thread and the lines."""

from __future__ import annotations

import threading

from raycolab.engine.mailbox import Batch
from raycolab.engine.messages import Assignment
from raycolab.engine.slot import MAX_POINTS, SlotDesk
from raycolab.engine.slot_words import (
    Call,
    End,
    Ended,
    EngineWord,
    GaveBack,
    Give,
    PruneIt,
    Ready,
    Reply,
    Reported,
    Started,
    TakeBack,
)
from raycolab.trials import Outcome, TrialState

OUTCOME = Outcome(TrialState.COMPLETE, {"accuracy": 1.0})


def trial(ticket: int) -> Assignment:
    """A trial under this ticket."""
    return Assignment(ticket, ticket, "svc", "iris", {})


class Desk:
    """A desk with the engine's end of its line played by hand."""

    def __init__(self) -> None:
        self.desk = SlotDesk("head.1")
        self.said = 0
        self.heard = 0

    def call(self) -> Call:
        """The call that is due."""
        call = self.desk.next_call()
        assert call is not None
        self.heard = max(self.heard, call.batch.first + len(call.batch.messages) - 1)
        return call

    def answer(self, *words: EngineWord, held_s: float = 0.0, elapsed_s: float = 0.1) -> None:
        """Answer a call."""
        self.desk.answered(Reply(Batch(self.said + 1, words, self.heard), held_s), elapsed_s)
        self.said += len(words)


def test_work_is_taken_in_order_and_reported() -> None:
    """Each trial is reported as started, then as ended with its outcome."""
    line = Desk()
    line.desk.report(Ready({}))
    assert line.call().batch == Batch(1, (Ready({}),), 0)
    line.answer(Give((trial(1), trial(2))))
    assert line.desk.take() == trial(1)
    assert line.call().batch.messages == (Started(1),)
    line.desk.report(Ended(1, OUTCOME))
    assert line.desk.take() == trial(2)
    assert line.call().batch.messages == (Ended(1, OUTCOME), Started(2))


def test_a_short_trial_is_reported_once() -> None:
    """When its start has not left yet, its end says both."""
    line = Desk()
    line.call()
    line.answer(Give((trial(1),)))
    line.desk.take()
    line.desk.report(Ended(1, OUTCOME))
    assert line.call().batch.messages == (Ended(1, OUTCOME),)


def test_what_is_asked_back_is_given_back_unless_it_was_started() -> None:
    """The answer names what had not been started, also when that is nothing."""
    line = Desk()
    line.call()
    line.answer(Give((trial(1), trial(2), trial(3))))
    line.desk.take()
    line.call()
    line.answer(TakeBack((1, 3)))
    assert line.call().batch.messages == (GaveBack((3,)),)
    assert line.desk.take() == trial(2)


def test_end_means_no_more_work() -> None:
    """Even what was given and not started is left."""
    line = Desk()
    line.call()
    line.answer(Give((trial(1),)), End())
    assert line.desk.take() is None
    line.desk.close(0.0)
    assert line.desk.next_call() is None


def test_after_the_end_only_a_report_makes_a_call() -> None:
    """There is no more work to wait for, and a call that is under way when the slot's process ends is an error."""
    line = Desk()
    line.call()
    line.answer(Give((trial(1),)))
    line.desk.take()
    assert line.call().batch.messages == (Started(1),)
    line.answer(End())
    called: list[Call | None] = []
    calling = threading.Thread(target=lambda: called.append(line.desk.next_call()))
    calling.start()
    line.desk.report(Ended(1, OUTCOME))
    calling.join(10)
    assert [each.batch.messages for each in called if each] == [(Ended(1, OUTCOME),)]
    line.heard += 1
    line.answer()
    calling = threading.Thread(target=lambda: called.append(line.desk.next_call()))
    calling.start()
    line.desk.close(10)
    calling.join(10)
    assert called[1:] == [None]


def test_a_failed_call_is_repeated_with_what_it_carried() -> None:
    """Its reports go again under their numbers, and the engine is told to repeat what it said."""
    line = Desk()
    line.desk.report(Ready({}))
    first = line.call()
    line.desk.failed()
    again = line.call()
    assert again.batch == first.batch
    assert (first.after_failure, again.after_failure) == (False, True)


def test_the_round_trip_leaves_out_how_long_the_engine_kept_the_call() -> None:
    """It is what the next call tells the engine."""
    line = Desk()
    assert line.call().round_trip_s is None
    line.answer(held_s=20.0, elapsed_s=20.25)
    assert line.call().round_trip_s == 0.25


def test_reports_of_a_trial_travel_together() -> None:
    """What was reported while the line was busy is one word; of a flood the latest are kept."""
    desk = Desk()
    desk.call()
    desk.answer(Give((trial(7),)))
    assert desk.desk.take() is not None
    assert desk.call().batch.messages == (Started(7),)
    assert not desk.desk.reported(0, 0.1)
    desk.desk.reported(1, 0.2)
    assert desk.call().batch.messages == (Reported(7, ((0, 0.1), (1, 0.2))),)
    for step in range(2 * MAX_POINTS):
        desk.desk.reported(step, 0.5)
    desk.answer()
    desk.answer()
    (word,) = desk.call().batch.messages
    assert isinstance(word, Reported)
    assert [step for step, _ in word.points] == list(range(MAX_POINTS, 2 * MAX_POINTS))


def test_a_trial_hears_that_it_is_pruned_at_its_next_report() -> None:
    """And only the one that runs: the word for another trial, or for one before, ends nothing."""
    desk = Desk()
    desk.call()
    desk.answer(Give((trial(7), trial(8))))
    assert not desk.desk.reported(0, 0.1)
    desk.desk.take()
    desk.call()
    desk.answer(PruneIt(8))
    assert not desk.desk.reported(0, 0.1)
    desk.call()
    desk.answer(PruneIt(7))
    assert desk.desk.reported(1, 0.1)
    assert desk.desk.reported(2, 0.1)
    desk.desk.take()
    assert not desk.desk.reported(0, 0.1)
