"""Traffic: what a provider would count, told apart by direction and class, and within 2 % of what an edge sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tunnel.mesh import behind_an_edge, echo, eventually, in_each_loop
from tunnel.testing import Edge
from tunnel.traffic import Meter, Traffic


class TestMeter:
    """One end of a WebSocket."""

    @pytest.mark.parametrize(("message", "header"), [(1, 2), (125, 2), (126, 4), (65535, 4), (65536, 10)])
    def test_a_message_has_a_header(self, message: int, header: int) -> None:
        """Of the length that RFC 6455 gives it, and a mask of 4 bytes from the client on."""
        client, server = Meter(client=True), Meter(client=False)
        for meter in (client, server):
            meter.sent(message)
            meter.received(message)
        assert (client.traffic.sent, client.traffic.received) == (message + header + 4, message + header)
        assert (server.traffic.sent, server.traffic.received) == (message + header, message + header + 4)

    def test_a_message_is_divided_by_what_was_in_it(self) -> None:
        """A quarter data before compression is a quarter data on the wire; nothing is counted twice or left out."""
        meter = Meter(client=False)
        meter.sent(98, 250, 1000)
        meter.received(94, 10, 10)
        meter.received(94, 0, 0)
        assert meter.traffic == Traffic(25, 75, 100, 100)

    def test_the_http_exchange_is_control(self) -> None:
        """It carries no stream."""
        meter = Meter(client=True)
        meter.began(sent=300, received=120)
        assert meter.traffic == Traffic(0, 300, 0, 120)


class TestTraffic:
    """Sums."""

    def test_two_add_up(self) -> None:
        """Field by field."""
        both = Traffic(1, 2, 3, 4) + Traffic(10, 20, 30, 40)
        assert both == Traffic(11, 22, 33, 44)
        assert (both.sent, both.received, both.total) == (33, 77, 110)


class TestAgainstAnEdge:
    """The hub's count beside what passed at the edge."""

    @in_each_loop
    async def test_the_hub_counts_what_the_edge_counts(self, loop: str, tmp_path: Path) -> None:
        """Joining, idling, bulk and short messages, a cut and a resumption: within 2 %, each direction."""

        def counted(edge: Edge) -> tuple[int, int]:
            return edge.stats.bytes_up, edge.stats.bytes_down

        async with behind_an_edge(tmp_path) as (mesh, edge):
            one, two = await mesh.join(), await mesh.join()
            target = await mesh.serve(two, echo)
            for _ in range(3):
                await mesh.echoes(one, target)
                reader, writer = await mesh.dial(one, target)
                for _ in range(200):
                    writer.write(b"a short message")
                    assert await reader.readexactly(15)
                writer.close()
                edge.cut()
                await one.log.saw("up", times=1)
            await eventually(lambda: not edge.stats.held_bytes)
            hub = mesh.hub.traffic
            up, down = counted(edge)
            assert hub.received == pytest.approx(up, rel=0.02)
            assert hub.sent == pytest.approx(down, rel=0.02)
            peers = sum((peer.traffic for peer in mesh.hub.peers), Traffic())
            assert peers.total <= hub.total
            assert peers.data_received > 3 * 600_000
