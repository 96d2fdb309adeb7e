"""Who dials whom once Ray is up, and the sentence for a dial that fails."""

from __future__ import annotations

import pytest

from raycolab.node.mesh_watch import Probe, Reachable, failure_sentence, pairs, plan

HEAD = Reachable(1, "head", {"GCS": 10, "node manager": 11})
FIRST = Reachable(2, "joiner-1", {"node manager": 21})
NEWCOMER = Reachable(3, "joiner-2", {"node manager": 31, "object manager": 32})


def test_everyone_dials_the_newcomer_and_it_everyone() -> None:
    """Every port, both ways; what others can reach of each other was tested when they came."""
    assert plan(NEWCOMER, [HEAD, FIRST]) == [
        *(Probe(1, 3, 31), Probe(1, 3, 32), Probe(3, 1, 10), Probe(3, 1, 11)),
        *(Probe(2, 3, 31), Probe(2, 3, 32), Probe(3, 2, 21)),
    ]


def test_the_first_node_has_nobody_to_dial() -> None:
    """A head alone is fine."""
    assert plan(HEAD, []) == []


def test_a_failure_names_both_ends_and_what_the_port_is_for() -> None:
    """The first one that is about nodes that are still there."""
    gone, failed = Probe(9, 3, 31), Probe(3, 1, 10)
    assert failure_sentence([gone, failed, Probe(1, 3, 31)], [HEAD, NEWCOMER]) == (
        "joiner-2 cannot reach head's GCS port 10: trials may fail there; end the joiner and run it again."
    )


def test_a_port_of_no_role_is_still_named() -> None:
    """A peer may name any number."""
    assert "joiner-2 cannot reach head's port 99:" in str(failure_sentence([Probe(3, 1, 99)], [HEAD, NEWCOMER]))


def test_no_failure_is_no_sentence() -> None:
    """Nor is one of nodes that left meanwhile."""
    assert failure_sentence([], [HEAD]) is None
    assert failure_sentence([Probe(7, 8, 1)], [HEAD]) is None


@pytest.mark.parametrize("value", [None, "ab", {"a": 1}, [1, 2], [[1]], [["1", 2]], [[1, 2, 3]], [None]])
def test_what_is_no_pair_of_numbers_is_left_out(value: object) -> None:
    """A peer may send anything."""
    assert pairs(value) == []


def test_pairs_are_read() -> None:
    """Node and port, those that are ones."""
    assert pairs([[2, 21], ["x"], [3, 31]]) == [(2, 21), (3, 31)]
