"""Messages arrive once and in order, over calls that fail, repeat and overtake each other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raycolab.engine.mailbox import Batch, Inbox, Outbox


def test_what_is_put_is_taken_once_until_a_call_fails() -> None:
    """A batch carries what was not sent; after a failure what is not acknowledged goes again."""
    outbox: Outbox[str] = Outbox()
    outbox.put("a")
    outbox.put("b")
    assert outbox.take(7) == Batch(1, ("a", "b"), 7)
    assert outbox.take(7) == Batch(3, (), 7)
    outbox.put("c")
    outbox.acknowledged(1)
    outbox.send_again()
    assert outbox.take(8) == Batch(2, ("b", "c"), 8)
    outbox.acknowledged(3)
    assert outbox.is_empty


def test_only_what_was_not_sent_can_be_taken_back() -> None:
    """The latest message can be dropped before it has left, not after."""
    outbox: Outbox[str] = Outbox()
    outbox.put("a")
    outbox.drop_last_unsent()
    assert outbox.is_empty
    outbox.put("b")
    outbox.take(0)
    assert outbox.last_unsent() is None
    outbox.drop_last_unsent()
    assert not outbox.is_empty


def test_an_inbox_drops_what_it_has_and_holds_what_came_early() -> None:
    """Repeats are dropped, a batch that overtook waits for the one before it."""
    inbox: Inbox[str] = Inbox()
    assert inbox.take(1, ["a", "b"]) == ["a", "b"]
    assert inbox.take(1, ["a", "b", "c"]) == ["c"]
    assert inbox.take(5, ["e"]) == []
    assert inbox.received == 3
    assert inbox.take(4, ["d"]) == ["d", "e"]
    assert inbox.received == 5


@given(st.lists(st.sampled_from(["put", "take", "lose", "deliver", "deliver last", "acknowledge"]), max_size=80))
def test_whatever_happens_to_the_calls_every_message_arrives_once_in_order(steps: list[str]) -> None:
    """Random losses, delays and swaps; in the end all that was put has come, and nothing twice."""
    outbox: Outbox[int] = Outbox()
    inbox: Inbox[int] = Inbox()
    under_way: list[Batch[int]] = []
    heard: list[int] = []
    count = 0
    for step in [*steps, *["deliver"] * 80, "lose", "take", "deliver"]:
        if step == "put":
            count += 1
            outbox.put(count)
        elif step == "take":
            under_way.append(outbox.take(0))
        elif step == "lose":
            under_way[-1:] = []
            outbox.acknowledged(inbox.received)
            outbox.send_again()
        elif step == "acknowledge":
            outbox.acknowledged(inbox.received)
        elif under_way:
            batch = under_way.pop(0 if step == "deliver" else -1)
            heard += inbox.take(batch.first, batch.messages)
    assert heard == list(range(1, count + 1))
