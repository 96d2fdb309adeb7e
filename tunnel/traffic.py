"""How many bytes a WebSocket carries, as a provider that charges for them counts: TCP payload, by direction and class.

A message is counted with its WebSocket header (RFC 6455, section 5.2), and the HTTP exchange that began the WebSocket
with it. Compression and TLS take the frames of a message together, so what a message costs is divided between the two
classes as their bytes were before: *data* is the payload of streams, *control* all else.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

__all__ = ["Meter", "Traffic"]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of one or more WebSockets, seen from one end; `+` adds two."""

    data_sent: int = 0
    control_sent: int = 0
    data_received: int = 0
    control_received: int = 0

    @property
    def sent(self) -> int:
        """Bytes sent, of both classes."""
        return self.data_sent + self.control_sent

    @property
    def received(self) -> int:
        """Bytes received, of both classes."""
        return self.data_received + self.control_received

    @property
    def total(self) -> int:
        """Bytes in both directions."""
        return self.sent + self.received

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(*map(sum, zip(astuple(self), astuple(other), strict=True)))


class Meter:
    """Counts what one end of a WebSocket sends and receives; the client's end, which masks, sends longer headers."""

    def __init__(self, *, client: bool) -> None:
        self._client = client
        self._sent = [0, 0]  # data, control
        self._received = [0, 0]

    @property
    def traffic(self) -> Traffic:
        """All so far."""
        return Traffic(*self._sent, *self._received)

    def began(self, *, sent: int, received: int) -> None:
        """The HTTP request and response had so many bytes."""
        self._sent[1] += sent
        self._received[1] += received

    def sent(self, message: int, data: int = 0, plain: int = 1) -> None:
        """A message of so many bytes left; of its `plain` bytes before compression and TLS, `data` were streams'."""
        _add(self._sent, _framed(message, masked=self._client), data, plain)

    def received(self, message: int, data: int = 0, plain: int = 1) -> None:
        """A message of so many bytes came; all else as for `sent`."""
        _add(self._received, _framed(message, masked=not self._client), data, plain)


def _framed(message: int, *, masked: bool) -> int:
    header = 2 if message < 126 else 4 if message < 65536 else 10
    return message + header + (4 if masked else 0)


def _add(counts: list[int], size: int, data: int, plain: int) -> None:
    share = size * data // plain if plain else 0
    counts[0] += share
    counts[1] += size - share
