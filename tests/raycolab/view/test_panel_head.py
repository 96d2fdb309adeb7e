"""The head's panel: the address while it is good for anything, the nodes, the allowance, snapshots, what to read."""

from __future__ import annotations

from typing import Any

from raycolab.view.panels import MASK, head_bundle, head_panel
from tests.raycolab.view import cluster_of_six as six
from tests.raycolab.view.pages import Page

NASTY = "<img src=x onerror=alert(1)> & \"'"


def page(address: str | None = six.ADDRESS, **changes: Any) -> Page:
    """The panel of the head of six nodes with these keys of its status replaced."""
    return Page(head_panel(six.head_status(**changes), address))


def test_the_address_is_selectable_text() -> None:
    """One line in one element, which a click selects whole."""
    seen = page()
    assert six.ADDRESS in seen.texts
    assert ("pre", {"class": "address"}) in seen.tags
    assert "user-select: all" in seen.style


def test_a_blank_notebook_gets_a_whole_cell() -> None:
    """Folded below the address, which stays the first thing to select; gone when the address is."""
    cell = f"%pip install raycolab\n\nraycolab.join('{six.ADDRESS}')\n"
    seen = Page(head_panel(six.head_status(), six.ADDRESS, cell))
    assert seen.tags.index(("pre", {"class": "address"})) < seen.tags.index(("details", {"class": "steps"}))
    assert cell.strip() in [text.strip() for text in seen.texts]
    assert "details" not in {tag for tag, _ in page().tags}
    for text in head_bundle(six.head_status(), None, cell).values():
        assert six.ADDRESS not in text


def test_every_node_has_its_row() -> None:
    """Name, state, CPUs, what it runs, round trip and bytes; GPUs where there are any."""
    seen = page()
    assert "6 nodes, 12 CPUs" in seen.texts
    at = seen.texts.index("joiner-2")
    assert seen.texts[at : at + 7] == ["joiner-2", "up", "2", "#406 logistic x digits", "82 ms", "6.8 MB", "2.5 MB"]
    assert "GPUs" not in seen.texts
    with_gpus = page(nodes=[{**node, "gpus": 1} for node in six.nodes()])
    assert "GPUs" in with_gpus.texts
    assert "6 nodes, 12 CPUs, 6 GPUs" in with_gpus.texts


def test_many_nodes_are_counted_where_they_are_not_shown() -> None:
    """A panel has an end."""
    many = [{**six.nodes()[1], "name": f"joiner-{at}"} for at in range(100)]
    assert "and 60 more: " in page(nodes=many).text


def test_the_allowance_is_a_bar_and_a_line() -> None:
    """The month's bytes beside what the plan has; without a limit the bytes alone."""
    seen = page()
    assert any("312 MB of the 1.0 GB that ngrok's free plan includes each month" in text for text in seen.texts)
    assert ("i", {"class": "complete", "style": "width:31.2%"}) in seen.tags
    traffic = {**six.head_status()["traffic"], "limit_bytes": None}
    assert "allowance" not in {attributes.get("class") for _, attributes in page(traffic=traffic).tags}


def test_a_used_up_allowance_is_a_warning() -> None:
    """The bar is full and red, and the sentence stands above the nodes."""
    seen = Page(head_panel(six.head_status(used_up=True), six.ADDRESS))
    assert ("i", {"class": "failed", "style": "width:100.0%"}) in seen.tags
    warning = next(text for text in seen.texts if "used up" in text)
    assert seen.texts.index(warning) < seen.texts.index("Nodes")


def test_the_last_snapshot_says_its_age() -> None:
    """Its age; what is wrong with the next, as a warning; and what it means that none are taken."""
    assert "snapshot 12, 24 s old, in /content/drive/MyDrive/raycolab" in page().texts
    assert "on this machine's disk only" in page(snapshots=None).text
    stuck = page(snapshots={**six.head_status()["snapshots"], "error": "the folder is full"})
    assert ("p", {"class": "notice warn"}) in stuck.tags
    assert "the folder is full" in stuck.text
    bare = {key: value for key, value in six.head_status().items() if key != "snapshots"}
    assert "Snapshots" not in Page(head_panel(bare, six.ADDRESS)).texts


def test_warnings_are_read_before_the_nodes() -> None:
    """A node's and a sweep's sentence."""
    sweeps = [{"name": "digits", "state": "HELD", "sentence": "svc is held"}]
    seen = page(nodes=six.nodes(stalled=True), sweeps=sweeps)
    for sentence in ("digits: svc is held", "joiner-5: head cannot reach its object manager (127.77.0.6:20201)."):
        assert seen.texts.index(sentence) < seen.texts.index("Nodes")


def test_a_head_that_has_ended_shows_no_address() -> None:
    """Neither in the panel nor in its twin: a notebook is saved and shared with its last output."""
    bundle = head_bundle(six.head_status(), None)
    for text in bundle.values():
        assert "SeCrEt" not in text
        assert "quick-fox" not in text
        assert MASK in text
        assert "wss" not in text  # nor would a unix socket's head have had that
    assert "ended" in Page(bundle["text/html"]).texts


def test_the_twin_has_the_address_on_a_line_and_the_nodes() -> None:
    """As pages without HTML, and programs, read it."""
    lines = head_bundle(six.head_status(used_up=True), six.ADDRESS)["text/plain"].splitlines()
    assert six.ADDRESS in lines
    assert "joiner-2: up, 2 CPUs" in lines
    assert any("head.shutdown()" in line for line in lines)
    assert any("used up" in line for line in lines)


def test_it_reaches_for_nothing_and_everything_is_escaped() -> None:
    """Names, warnings and folders are other people's text."""
    node = {**six.nodes()[0], "name": NASTY, "state": NASTY, "trial": NASTY, "warning": NASTY}
    snapshots = {"folder": NASTY, "number": 1, "age_s": 1.0, "up_to_date": True, "error": NASTY}
    seen = page(NASTY, nodes=[node], snapshots=snapshots)
    seen.assert_self_contained()
    assert seen.text.count(NASTY) == 8
