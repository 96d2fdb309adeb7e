"""The joiner's panel: whether it is part of the cluster, whose, what it runs, what happened, how to leave."""

from __future__ import annotations

from raycolab.view.panels import TRUST, JoinerEvent, JoinerView, joiner_bundle, joiner_panel
from tests.raycolab.view.pages import Page

EVENTS = (JoinerEvent("14:02:11", "connecting to wss://head"), JoinerEvent("14:02:17", "joiner-3 is up with 2 CPUs"))
VIEW = JoinerView("joiner-3", "up", "wss://head", "#406 svc x iris", EVENTS)
NASTY = "<b onclick=alert(1)> & \"'"


def test_it_says_where_this_machine_is_and_what_it_does() -> None:
    """Name, state, head, trial, events with their times."""
    texts = Page(joiner_panel(VIEW)).texts
    for word in ("joiner-3", "up", "wss://head", "#406 svc x iris", "14:02:17", "joiner-3 is up with 2 CPUs"):
        assert word in texts


def test_it_says_how_to_leave_and_who_runs_code_here() -> None:
    """For as long as it is part of the cluster."""
    text = Page(joiner_panel(VIEW)).text
    assert "raycolab.leave()" in text
    assert TRUST in text
    over = Page(joiner_panel(JoinerView("joiner-3", "ended", events=EVENTS))).text
    assert "leave()" not in over
    assert "runs" not in over


def test_a_machine_without_a_trial_waits_for_one() -> None:
    """Or is not up yet."""
    assert "waiting for trials" in joiner_panel(JoinerView("joiner-3", "up"))
    assert "nothing yet" in joiner_panel(JoinerView(None, "connecting"))


def test_of_many_events_the_last_are_shown() -> None:
    """And counted are the others; the twin has them all."""
    events = tuple(JoinerEvent("", f"event {at}") for at in range(20))
    bundle = joiner_bundle(JoinerView("joiner-3", "up", events=events))
    seen = Page(bundle["text/html"])
    assert "event 19" in seen.texts
    assert "event 11" not in seen.texts
    assert "12 earlier" in seen.texts
    assert "event 0" in bundle["text/plain"].splitlines()


def test_it_reaches_for_nothing_and_everything_is_escaped() -> None:
    """The head's words come from another machine."""
    view = JoinerView(NASTY, NASTY, NASTY, NASTY, (JoinerEvent(NASTY, NASTY),), (NASTY,), NASTY)
    seen = Page(joiner_panel(view))
    seen.assert_self_contained()
    assert seen.text.count(NASTY) == 8
