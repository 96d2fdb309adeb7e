"""The inner TLS: a handshake only with the pinned hub, bytes that nobody between can read, proof of the secret."""

from __future__ import annotations

import contextlib
import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunnel.errors import IdentityError, LocalProtocolError, PinMismatch, RemoteProtocolError
from tunnel.secure import (
    HANDSHAKE_LIMIT,
    HubIdentity,
    SecureSession,
    make_challenge,
    proof_holds,
    prove,
    server_context,
)

NOW = 1_800_000_000.0
IDENTITY = HubIdentity.create(NOW)
STRANGER = HubIdentity.create(NOW)
CONTEXT = server_context(IDENTITY)


def exchange(node: SecureSession, hub: SecureSession) -> tuple[bytes, bytes]:
    """Carry ciphertext both ways until nobody has any; what arrived at the node, and at the hub."""
    at_node = at_hub = b""
    while True:
        up, down = node.data_to_send(), hub.data_to_send()
        if not up and not down:
            return at_node, at_hub
        at_hub += hub.receive(up)
        at_node += node.receive(down)


def established_pair() -> tuple[SecureSession, SecureSession]:
    """A node and a hub after their handshake."""
    node, hub = SecureSession.client(IDENTITY.pin), SecureSession.server(CONTEXT)
    exchange(node, hub)
    assert node.established
    assert hub.established
    return node, hub


class TestIdentity:
    """Key, certificate and secret of a hub."""

    def test_pem_round_trip(self) -> None:
        """A restarted hub reads back exactly what it was."""
        assert HubIdentity.from_pem(IDENTITY.to_pem()) == IDENTITY

    def test_repr_shows_neither_key_nor_secret(self) -> None:
        """Only the pin is fit for a log."""
        shown = repr(IDENTITY)
        assert "PRIVATE" not in shown
        assert repr(IDENTITY.secret) not in shown

    @pytest.mark.parametrize(
        ("damage", "sentence"),
        [
            (lambda pem: b"", "The hub's identity is damaged: it holds no secret"),
            (lambda pem: pem[:-60], "it holds no secret"),
            (lambda pem: pem[200:], "The hub's identity is damaged: it cannot be read"),
            (lambda pem: IDENTITY.key_pem + pem[pem.index(b"-----BEGIN TUNNEL") :], "it cannot be read"),
            (lambda pem: pem.replace(IDENTITY.key_pem, STRANGER.key_pem), "its parts do not belong together"),
            (lambda pem: pem.replace(b"TUNNEL SECRET-----\n", b"TUNNEL SECRET-----\nAAAA", 1), "belong together"),
        ],
    )
    def test_damaged_pem_is_told(self, damage: object, sentence: str) -> None:
        """A cut, mixed or empty file gives one sentence, not a traceback from a library."""
        assert callable(damage)
        with pytest.raises(IdentityError, match=sentence):
            HubIdentity.from_pem(damage(IDENTITY.to_pem()))


class TestHandshake:
    """From the first byte to `established`."""

    def test_byte_by_byte(self) -> None:
        """However the transport cuts it, the handshake ends and data passes."""
        node, hub = SecureSession.client(IDENTITY.pin), SecureSession.server(CONTEXT)
        at_hub = b""
        for _ in range(3):
            for byte in node.data_to_send():
                at_hub += hub.receive(bytes([byte]))
            for byte in hub.data_to_send():
                node.receive(bytes([byte]))
        assert node.established
        assert hub.established
        node.send(b"hello")
        for byte in node.data_to_send():
            at_hub += hub.receive(bytes([byte]))
        assert at_hub == b"hello"

    def test_hub_refuses_tls_1_2(self) -> None:
        """A peer that only speaks the older version gets an alert, and the hub a RemoteProtocolError."""
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname = False
        old.verify_mode = ssl.CERT_NONE
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        peer = old.wrap_bio(incoming, outgoing)
        with pytest.raises(ssl.SSLWantReadError):
            peer.do_handshake()
        hub = SecureSession.server(CONTEXT)
        with pytest.raises(RemoteProtocolError):
            hub.receive(outgoing.read())
        incoming.write(hub.data_to_send())
        with pytest.raises(ssl.SSLError, match="alert"):
            peer.do_handshake()

    def test_nothing_goes_to_a_hub_with_the_wrong_pin(self) -> None:
        """After a mismatch not one byte leaves, the stranger's handshake never ends, and nothing more is taken."""
        node, hub = SecureSession.client(STRANGER.pin), SecureSession.server(CONTEXT)
        hub.receive(node.data_to_send())
        with pytest.raises(PinMismatch, match="is not the one the join address names"):
            node.receive(hub.data_to_send())
        assert node.data_to_send() == b""
        assert not node.established
        assert not hub.established
        with pytest.raises(LocalProtocolError):
            node.send(b"secret")
        with pytest.raises(LocalProtocolError):
            node.receive(b"more")

    def test_swapped_certificate_without_its_key_fails(self) -> None:
        """Whoever shows the pinned certificate must hold its key: replaying it under another key is no handshake."""
        node, hub = SecureSession.client(IDENTITY.pin), SecureSession.server(CONTEXT)
        other_node = SecureSession.client(IDENTITY.pin)
        hub.receive(other_node.data_to_send())
        node.data_to_send()
        with pytest.raises(RemoteProtocolError):
            node.receive(hub.data_to_send())

    def test_endless_handshake_is_cut(self) -> None:
        """A peer that never finishes is given up at the limit, with no more than that buffered."""
        hub = SecureSession.server(CONTEXT)
        # A record of type handshake that promises a ClientHello of 100 kB and never completes it.
        hello = b"\x16\x03\x01\x40\x00" + b"\x01\x01\x86\xa0" + bytes(0x4000 - 4)
        more = b"\x16\x03\x01\x40\x00" + bytes(0x4000)
        assert hub.receive(hello) == b""
        with pytest.raises(RemoteProtocolError, match=str(HANDSHAKE_LIMIT)):
            hub.receive(more + more)

    def test_node_may_send_with_the_end_of_its_handshake(self) -> None:
        """Established one half round trip earlier, the node's first bytes travel with its Finished."""
        node, hub = SecureSession.client(IDENTITY.pin), SecureSession.server(CONTEXT)
        hub.receive(node.data_to_send())
        node.receive(hub.data_to_send())
        node.send(b"x" * 100_000)
        assert hub.receive(node.data_to_send()) == b"x" * 100_000


class TestGarbage:
    """A peer that does not speak TLS, or stops speaking it."""

    @given(st.binary(min_size=1, max_size=2000))
    @settings(max_examples=100)
    def test_any_bytes_after_the_handshake_give_nothing_or_a_remote_protocol_error(self, garbage: bytes) -> None:
        """The same once established."""
        for session in established_pair():
            try:
                assert session.receive(garbage) == b""
            except RemoteProtocolError:
                assert not session.established

    @given(st.floats(0, 1, exclude_max=True), st.integers(0, 7))
    @settings(max_examples=100)
    def test_altered_handshake_establishes_nothing(self, place: float, bit: int) -> None:
        """One flipped bit anywhere in the hub's part of the handshake leaves the node without a session."""
        node, hub = SecureSession.client(IDENTITY.pin), SecureSession.server(CONTEXT)
        hub.receive(node.data_to_send())
        flight = bytearray(hub.data_to_send())
        # From the first record's length on: the version before it is ignored by every TLS 1.3 (RFC 8446, 5.1).
        flight[3 + int(place * (len(flight) - 3))] ^= 1 << bit
        with contextlib.suppress(RemoteProtocolError):
            node.receive(bytes(flight))
        assert not node.established


class TestData:
    """Plaintext in, the same plaintext out."""

    @given(st.lists(st.tuples(st.booleans(), st.binary(max_size=50_000)), max_size=10), st.integers(1, 70_000))
    @settings(max_examples=50, deadline=None)
    def test_both_directions_keep_every_byte_in_order(self, messages: list[tuple[bool, bytes]], cut: int) -> None:
        """Whatever is sent either way, in whatever pieces it arrives, comes out whole and in order."""
        node, hub = established_pair()
        sent: dict[bool, bytes] = {True: b"", False: b""}
        wire: dict[bool, bytes] = {True: b"", False: b""}
        for upward, message in messages:
            sender = node if upward else hub
            sender.send(message)
            sent[upward] += message
            wire[upward] += sender.data_to_send()
        for upward, receiver in ((True, hub), (False, node)):
            pieces = [wire[upward][at : at + cut] for at in range(0, len(wire[upward]), cut)]
            assert b"".join(receiver.receive(piece) for piece in pieces) == sent[upward]


class TestClose:
    """The end of a session, which only another implementation announces: ours closes the WebSocket."""

    def test_what_follows_the_peers_close_is_dropped(self) -> None:
        """What was sent before the close is delivered, and nothing after it."""
        node, hub = established_pair()
        node.send(b"last words")
        with contextlib.suppress(ssl.SSLWantReadError):
            node._tls.unwrap()
        assert hub.receive(node.data_to_send()) == b"last words"
        assert hub.receive(b"whatever") == b""
        assert hub.established


class TestProof:
    """The node's proof that it holds the secret."""

    CHALLENGE = make_challenge(bytes(32))

    def test_proof_is_for_one_secret_one_hub_and_one_challenge(self) -> None:
        """It cannot be used at another hub or another time."""
        proof = prove(IDENTITY.secret, IDENTITY.pin, self.CHALLENGE)
        assert proof_holds(IDENTITY.secret, IDENTITY.pin, self.CHALLENGE, proof)
        assert not proof_holds(STRANGER.secret, IDENTITY.pin, self.CHALLENGE, proof)
        assert not proof_holds(IDENTITY.secret, STRANGER.pin, self.CHALLENGE, proof)
        assert not proof_holds(IDENTITY.secret, IDENTITY.pin, make_challenge(b"\1" * 32), proof)

    def test_challenge_needs_enough_entropy(self) -> None:
        """Less than 32 random bytes is the caller's mistake, and the challenge is not the bytes themselves."""
        assert make_challenge(bytes(32)) != bytes(32)
        with pytest.raises(LocalProtocolError):
            make_challenge(bytes(31))
