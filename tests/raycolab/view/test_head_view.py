"""The head's panel in a notebook is kept true, and loses its address when the head is over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from raycolab.errors import ClusterError, NoHeadError
from raycolab.view import live
from raycolab.view.live import HeadView, head_view
from tests.raycolab.view import cluster_of_six as six

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
