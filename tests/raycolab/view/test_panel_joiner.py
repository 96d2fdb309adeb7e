"""The joiner's panel: whether it is part of the cluster, whose, what it runs, what happened, how to leave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import CapturedIO, capture_output

from raycolab.view import live
from raycolab.view.panels import TRUST, JoinerEvent, JoinerView, joiner_bundle, joiner_panel
from tests.raycolab.results.pages import Page

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
    assert "waits for trials" in joiner_panel(JoinerView("joiner-3", "up"))
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


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[CapturedIO]:
    """The outputs of a notebook's cell."""
    InteractiveShell.instance()
    monkeypatch.setattr(live, "in_notebook", lambda: True)
    with capture_output() as captured:
        yield captured
    InteractiveShell.clear_instance()


def test_in_a_notebook_one_output_is_updated_in_place(shown: CapturedIO) -> None:
    """From the first event to what Stop leaves behind, which says how to leave."""
    told: Mapping[str, Any] = {"name": "joiner-3", "trial": "#406 svc x iris"}
    surface = live.joiner_surface("wss://head", lambda: told, "/tmp/rc-1")
    surface.greet("Joining.")
    surface.happened({"event": "up", "text": "joiner-3 is up", "at": 1_795_379_400.0})
    surface.look()
    surface.detach("Detached: raycolab.leave() leaves.")
    surface.close()
    assert [output.update for output in shown.outputs] == [False, True]
    assert len({output.transient["display_id"] for output in shown.outputs}) == 1
    last = Page(shown.outputs[-1].data["text/html"])
    for word in ("joiner-3", "up", "#406 svc x iris", "joiner-3 is up", "Detached: raycolab.leave() leaves."):
        assert word in last.texts
    assert shown.outputs[-1].data["text/plain"].splitlines()[-1] == "Detached: raycolab.leave() leaves."


def test_what_it_failed_of_stays(shown: CapturedIO) -> None:
    """Beside the error that the cell raises, which goes with the next run."""
    surface = live.joiner_surface("wss://head", dict, "/tmp/rc-1")
    surface.happened({"event": "failed", "error": "The head refused this joiner."})
    surface.close()
    assert "The head refused this joiner." in Page(shown.outputs[-1].data["text/html"]).texts


def test_a_panel_that_nobody_watches_any_more_says_that_the_joiner_has_ended(shown: CapturedIO) -> None:
    """By whoever ended it, in every output of that joiner and of no other."""
    surface = live.joiner_surface("wss://head", dict, "/tmp/rc-1")
    surface.detach("Detached: this machine is still part of the cluster.")
    surface.close()
    events = [{"event": "up", "text": "joiner-3 is up"}, {"event": "ended", "text": "It has left."}]
    live.show_ended("wss://head", "joiner-3", events, "/tmp/rc-1")
    live.show_ended("wss://head", None, [*events, {"event": "failed", "error": "Gone."}], "/tmp/rc-2")
    watched, left, other = shown.outputs
    assert left.update
    assert left.transient == watched.transient != other.transient
    seen = Page(left.data["text/html"])
    assert {"joiner-3", "ended", "wss://head", "joiner-3 is up", "It has left."} <= set(seen.texts)
    assert "Detached" not in seen.text
    assert {"a joiner", "failed", "Gone."} <= set(Page(other.data["text/html"]).texts)


def test_elsewhere_it_is_a_line_per_event(capsys: pytest.CaptureFixture[str]) -> None:
    """A failure is not said: it is raised."""
    surface = live.joiner_surface("wss://head", dict, "/tmp/rc-1")
    surface.greet("Joining.")
    surface.happened({"event": "up", "text": "joiner-3 is up"})
    surface.happened({"event": "failed", "error": "No."})
    surface.look()
    surface.detach("Detached.")
    surface.close()
    live.show_ended("wss://head", None, [], "/tmp/rc-1")
    assert capsys.readouterr().out.splitlines() == ["Joining.", "joiner-3 is up", "Detached."]
