"""The hub's book: numbers, names, port blocks, who listens for whom, and when a node is ready."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunnel.errors import Refused
from tunnel.nodes import (
    FIRST_PORT,
    HUB,
    LAST_PORT,
    MAX_NODE,
    Node,
    NodeId,
    PortBlock,
    Roster,
    address_of,
    block_size,
    usable_ports,
)

BUSY = st.lists(st.integers(FIRST_PORT, LAST_PORT), max_size=5)


def join(roster: Roster, space: str, *, name: str | None = None, ports: int = 8, busy: Iterable[int] = ()) -> Node:
    """A node in a network namespace joins."""
    return roster.join(name=name, ports=ports, namespace=space, busy=busy)


def with_hub() -> Roster:
    """The book of a hub that is alone, in the namespace "hub"."""
    roster = Roster(prefix="joiner")
    join(roster, "hub", name="head")
    roster.newly_ready()
    return roster


def listen(
    roster: Roster, but: Callable[[int, int], bool] = lambda who, of: False
) -> dict[int, tuple[list[int], list[int]]]:
    """Everybody is told for whom to listen, and does, but for some; whom each was told to begin and to end with."""
    orders = roster.orders()
    for node_id, start, _ in orders:
        for node in start:
            if not but(node_id, node.id):
                roster.listening(node_id, node.id)
    return {node_id: ([node.id for node in start], list(stop)) for node_id, start, stop in orders}


class TestNumbers:
    """Node numbers and addresses."""

    def test_the_hub_is_node_1_and_others_follow(self) -> None:
        """Node k is 127.77.0.k."""
        roster = with_hub()
        nodes = [join(roster, space) for space in "ab"]
        assert [node.id for node in roster.nodes] == [HUB, 2, 3]
        assert [node.address for node in nodes] == ["127.77.0.2", "127.77.0.3"]
        assert address_of(7) == "127.77.0.7"
        assert roster.nodes[1:] == nodes

    def test_a_number_is_given_again_only_after_all_others(self) -> None:
        """What somebody still says of a node that left, after an outage say, is not taken for word of a newcomer."""
        roster = with_hub()
        numbers = []
        for _ in range(MAX_NODE + 1):
            node = join(roster, "a")
            roster.leave(node.id)
            numbers.append(node.id)
        assert numbers == [*range(2, MAX_NODE + 1), 2, 3]

    def test_there_is_room_for_254_nodes(self) -> None:
        """The next one is refused with a sentence; a number that is free again is found."""
        roster = with_hub()
        for number in range(2, MAX_NODE + 1):
            assert join(roster, f"space {number}").id == number
        with pytest.raises(Refused, match="There is no room: a hub has 254 nodes at most") as refused:
            join(roster, "late")
        assert refused.value.code == "full"
        roster.leave(NodeId(77))
        assert join(roster, "late").id == 77


class TestNames:
    """What nodes are called."""

    def test_a_node_may_ask_for_a_name(self) -> None:
        """It gets it while nobody else has it, also when it comes back."""
        roster = with_hub()
        node = join(roster, "a", name="gpu")
        assert (node.name, join(roster, "b", name="gpu").name, join(roster, "c", name="head").name) == (
            "gpu",
            "joiner-1",
            "joiner-2",
        )
        roster.leave(node.id)
        assert join(roster, "a", name="gpu").name == "gpu"

    def test_a_name_of_ours_that_somebody_took_is_passed_over(self) -> None:
        """Names differ, always."""
        roster = with_hub()
        names = [join(roster, "a", name="joiner-1").name, join(roster, "b").name, join(roster, "c").name]
        assert names == ["joiner-1", "joiner-2", "joiner-3"]


class TestPorts:
    """Port blocks."""

    def test_a_block_avoids_ports_in_use_on_any_node(self) -> None:
        """Everybody listens on everybody's ports, so one machine's taken port is nobody's."""
        roster = with_hub()
        assert roster.nodes[0].block == PortBlock(10_002, 8)
        assert join(roster, "a", busy=[10_013]).block == PortBlock(10_014, 8)
        assert join(roster, "b", busy=[10_030]).block == PortBlock(10_022, 8)
        assert join(roster, "c").block == PortBlock(10_031, 8)

    def test_a_block_is_free_again_when_its_node_left(self) -> None:
        """And so are the ports that were in use on it."""
        roster = with_hub()
        first = join(roster, "a", busy=range(10_100, 32_768))
        with pytest.raises(Refused, match="There is no room for 96 more ports"):
            join(roster, "b", ports=90)
        roster.leave(first.id)
        assert join(roster, "b", ports=90).block.count == 96

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(st.integers(1, 700), BUSY), max_size=30))
    def test_blocks_never_overlap(self, joiners: list[tuple[int, list[int]]]) -> None:
        """Whoever comes and goes: disjoint, whole, off the reserved and off the busy ports."""
        roster = with_hub()
        for at, (ports, busy) in enumerate(joiners):
            try:
                node = join(roster, f"{at}", ports=ports, busy=busy)
            except Refused:
                continue
            assert node.block.count == block_size(ports)
            assert not set(busy) & set(node.block.ports)
            if at % 4 == 3:
                roster.leave(node.id)
        used = [port for node in roster.nodes for port in node.block.ports]
        assert len(used) == len(set(used))
        assert set(used) <= {port for stretch in usable_ports() for port in stretch}


class TestOrders:
    """Who listens for whom."""

    def test_all_listen_for_all_others(self) -> None:
        """The newcomer for everybody, everybody for the newcomer; nobody for itself."""
        roster = with_hub()
        join(roster, "a")
        assert listen(roster) == {1: ([2], []), 2: ([1], [])}
        join(roster, "b")
        assert listen(roster) == {1: ([3], []), 2: ([3], []), 3: ([1, 2], [])}
        assert listen(roster) == {}

    def test_nodes_that_share_a_namespace_need_no_listeners_for_each_other(self) -> None:
        """The first of them listens for those elsewhere, and those listen for each."""
        roster = with_hub()
        join(roster, "hub")
        assert listen(roster) == {}
        join(roster, "a")
        assert listen(roster) == {1: ([3], []), 3: ([1, 2], [])}
        join(roster, "a")
        assert listen(roster) == {1: ([4], [])}

    def test_when_the_listener_leaves_the_next_one_takes_over(self) -> None:
        """In order of joining, and at once for everybody elsewhere."""
        roster = with_hub()
        first, second, third = (join(roster, "a") for _ in range(3))
        listen(roster)
        roster.leave(first.id)
        assert listen(roster) == {1: ([], [2]), second.id: ([1], [])}
        roster.leave(second.id)
        assert listen(roster) == {1: ([], [3]), third.id: ([1], [])}

    def test_a_number_that_passed_to_another_node_means_stop_and_start(self) -> None:
        """Even when nobody was told in between: the block is another one."""
        roster = with_hub()
        for number in range(2, MAX_NODE + 1):
            join(roster, f"{number}")
        listen(roster)
        roster.leave(NodeId(9))
        newcomer = join(roster, "new", ports=64)
        assert newcomer.id == 9
        order = next(order for order in roster.orders() if order[0] == HUB)
        assert order == (HUB, [newcomer], [9])


class TestReady:
    """The barrier: a node is ready when all reach it and it reaches all."""

    def test_a_node_is_ready_when_all_listen_and_not_before(self) -> None:
        """Everybody for it, and it for everybody, in whatever order they say so."""
        roster = with_hub()
        a = join(roster, "a")
        roster.orders()
        for who, of in [(HUB, a.id), (a.id, HUB)]:
            assert roster.newly_ready() == []
            roster.listening(who, of)
        assert roster.newly_ready() == [a]
        assert roster.newly_ready() == []

    def test_a_node_that_leaves_is_waited_for_no_longer(self) -> None:
        """Its absence makes others ready."""
        roster = with_hub()
        a, b = join(roster, "a"), join(roster, "b")
        listen(roster, but=lambda who, of: who == b.id)
        assert roster.newly_ready() == []
        roster.leave(b.id)
        assert roster.newly_ready() == [a]

    def test_in_one_namespace_the_listener_speaks_for_all(self) -> None:
        """A node beside the hub is ready at once, one beside a joiner when the joiner is reached."""
        roster = with_hub()
        beside = join(roster, "hub")
        roster.orders()
        assert roster.newly_ready() == [beside]
        a, twin = join(roster, "a"), join(roster, "a")
        listen(roster)
        assert roster.newly_ready() == [a, twin]

    def test_what_the_former_listener_said_does_not_count_for_the_next(self) -> None:
        """The successor has to listen itself before newcomers are ready."""
        roster = with_hub()
        first, second = join(roster, "a"), join(roster, "a")
        listen(roster)
        roster.newly_ready()
        roster.leave(first.id)
        b = join(roster, "b")
        listen(roster, but=lambda who, of: who == second.id)
        assert roster.newly_ready() == []
        roster.listening(second.id, b.id)
        assert roster.newly_ready() == [b]

    def test_a_claim_to_listen_that_nobody_ordered_means_nothing(self) -> None:
        """Nor does one of a node that is not there."""
        roster = with_hub()
        a = join(roster, "a")
        roster.listening(a.id, HUB)
        roster.listening(NodeId(99), a.id)
        roster.listening(HUB, 99)
        roster.orders()
        roster.listening(HUB, a.id)
        assert roster.newly_ready() == []
        roster.listening(a.id, HUB)
        assert roster.newly_ready() == [a]

    def test_what_was_said_of_a_number_before_does_not_count_for_its_next_bearer(self) -> None:
        """Its block is another one, and everybody has to listen again."""
        roster = with_hub()
        for number in range(2, MAX_NODE + 1):
            join(roster, "hub" if number != 9 else "a")
        listen(roster)
        roster.newly_ready()
        roster.leave(NodeId(9))
        newcomer = join(roster, "a")
        assert newcomer.id == 9
        roster.orders()
        roster.listening(newcomer.id, HUB)
        for number in range(2, MAX_NODE + 1):
            roster.listening(newcomer.id, number)
        assert roster.newly_ready() == []
        roster.listening(HUB, newcomer.id)
        assert roster.newly_ready() == [newcomer]
