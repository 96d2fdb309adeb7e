"""Panels in a notebook are kept true: the head's, which loses its address when the head is over, and a joiner's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from IPython.utils.capture import CapturedIO

from raycolab.errors import ClusterError, NoHeadError
from raycolab.view import live
from raycolab.view.live import HeadView, head_view
from tests.raycolab.view import cluster_of_six as six
from tests.raycolab.view.pages import Page

DEADLINE_S = 10.0


class Outputs:
    """Where the view publishes; a test waits for what it needs to see."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str, bool]] = []
        self._changed = threading.Condition()

    def publish(self, bundle: Mapping[str, str], display_id: str, *, update: bool) -> None:
        """One more output, or a change of all there are."""
        with self._changed:
            self.all.append((bundle["text/plain"], display_id, update))
            self._changed.notify_all()

    def until(self, enough: Callable[[list[tuple[str, str, bool]]], bool]) -> None:
        """Wait until what was published is enough."""
        with self._changed:
            assert self._changed.wait_for(lambda: enough(self.all), DEADLINE_S)


class Head:
    """A head that answers what the test says."""

    def __init__(self) -> None:
        self.answers: list[Any] = [six.head_status(nodes=six.nodes()[:1])]
        self.asked = threading.Semaphore(0)

    def look(self) -> tuple[Mapping[str, Any], str]:
        """The next answer; the last one stays."""
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.asked.release()
        if isinstance(answer, Exception):
            raise answer
        return answer, six.ADDRESS


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> Outputs:
    """The outputs of a kernel, which looks at its head as often as it can."""
    found = Outputs()
    monkeypatch.setattr(live, "publish", found.publish)
    monkeypatch.setattr(live, "_LOOK_S", 0.001)
    return found


@pytest.fixture
def view() -> Iterator[HeadView]:
    """A view, ended with the test."""
    made = HeadView("/data")
    yield made
    made.end()


def test_who_joins_appears(outputs: Outputs, view: HeadView) -> None:
    """Though the cell has ended, and while its head is too busy to answer once."""
    head = Head()
    view.show(head.look)
    head.answers = [ClusterError("busy"), six.head_status()]
    outputs.until(lambda seen: "joiner-5: up" in seen[-1][0])
    assert [update for _, _, update in outputs.all] == [False, True]
    assert len({display_id for _, display_id, _ in outputs.all}) == 1


def test_a_blank_notebook_gets_the_cell_of_the_address(outputs: Outputs, view: HeadView) -> None:
    """Made anew from what the head says, for it may have another address."""
    view.show(Head().look, lambda address: f"raycolab.join({address!r})")
    assert f"raycolab.join({six.ADDRESS!r})" in outputs.all[-1][0]
    view.end()
    assert "raycolab.join" not in outputs.all[-1][0]


def test_numbers_alone_change_nothing_at_once(outputs: Outputs, view: HeadView) -> None:
    """An update loses what a person has selected, such as the address."""
    head = Head()
    view.show(head.look)
    head.answers = [six.head_status(nodes=[{**six.nodes()[0], "trial": "#9", "bytes_sent": 9}])]
    for _ in range(5):
        assert head.asked.acquire(timeout=DEADLINE_S)
    assert len(outputs.all) == 1


def test_when_the_head_is_gone_the_address_is_too(outputs: Outputs, view: HeadView) -> None:
    """Whoever ended it."""
    head = Head()
    view.show(head.look)
    head.answers = [NoHeadError("gone")]
    outputs.until(lambda seen: "This head has ended." in seen[-1][0])
    assert six.ADDRESS not in outputs.all[-1][0]


def test_shutdown_masks_the_address_at_once_and_once(outputs: Outputs, view: HeadView) -> None:
    """A kernel that showed no panel publishes nothing."""
    view.end()
    assert outputs.all == []
    view.show(Head().look)
    view.end()
    view.end()
    assert [six.ADDRESS in text for text, _, _ in outputs.all] == [True, False]


def test_a_new_kernel_masks_the_address_that_an_earlier_one_showed(
    outputs: Outputs, view: HeadView, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a notebook the same output is changed, though this kernel has shown none; once, also if asked twice."""
    monkeypatch.setattr(live, "in_notebook", lambda: True)
    earlier = HeadView("/data")
    earlier.show(Head().look)
    view.end()
    view.end()
    (_, shown_id, _), (text, masked_id, update) = outputs.all
    assert (masked_id, update) == (shown_id, True)
    assert six.ADDRESS not in text
    earlier.end()


def test_a_kernel_has_one_view_of_a_head() -> None:
    """So all its panels change together; another head has another."""
    assert head_view("/one") is head_view("/one")
    assert head_view("/one") is not head_view("/two")


@pytest.fixture
def in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is a notebook's kernel."""
    monkeypatch.setattr(live, "in_notebook", lambda: True)


@pytest.mark.usefixtures("in_a_notebook")
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


@pytest.mark.usefixtures("in_a_notebook")
def test_what_it_failed_of_stays(shown: CapturedIO) -> None:
    """Beside the error that the cell raises, which goes with the next run."""
    surface = live.joiner_surface("wss://head", dict, "/tmp/rc-1")
    surface.happened({"event": "failed", "error": "The head refused this joiner."})
    surface.close()
    assert "The head refused this joiner." in Page(shown.outputs[-1].data["text/html"]).texts


@pytest.mark.usefixtures("in_a_notebook")
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
