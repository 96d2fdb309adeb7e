"""The join address: one line that says where the hub is, which certificate it has, and the secret to join.

    tunnel+<url>#<token>        token = base64url(pin + secret + checksum), 91 characters without padding

The checksum tells a cut or mistyped address from a well-formed one that is merely wrong. Whoever has the line
can join, so nothing here shows the secret, except `text`. Sans-I/O: dialing the url is done elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from tunnel.errors import AddressError, LocalProtocolError

__all__ = ["PIN_BYTES", "SECRET_BYTES", "TOKEN_CHARACTERS", "JoinAddress", "unix_url"]

PIN_BYTES = 32
"""SHA-256 of the hub certificate's DER."""

SECRET_BYTES = 32

CHECKSUM_BYTES = 4

TOKEN_CHARACTERS = 91
"""Length of base64url without padding of pin, secret and checksum: ceil(68 * 8 / 6)."""

_PREFIX = re.compile(r"tunnel\+", re.IGNORECASE)
_TOKEN = re.compile(rf"[A-Za-z0-9_-]{{0,{TOKEN_CHARACTERS}}}")
_URL = re.compile(r"[A-Za-z0-9\-._~:/?\[\]!$&()*+,;=%]+")
# What terminals, mail and chat put into a long line: white space, zero-width characters, soft hyphens.
_INSERTED = re.compile("[\\s\u200b-\u200d\u2060\ufeff\u00ad]+")
_QUOTES = "'\"`\u2018\u2019\u201c\u201d"
_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss", "unix": "unix"}

_EMPTY = "The join address is empty. Paste the line that the head prints; it starts with tunnel+."
_ABSENT = (
    "There is no join address in this text: it would start with tunnel+. Copy the whole line that the head prints."
)
_CUT = (
    f"This join address is cut short: {{count}} of the {TOKEN_CHARACTERS} characters after its # are there. "
    "Copy the whole line that the head prints."
)
_ALTERED = (
    "This join address was altered on its way: a character in it is wrong or missing. "
    "Copy it from the head again, the whole line."
)


@dataclass(frozen=True, slots=True)
class JoinAddress:
    """Where a hub is (`url`), which certificate it has (`pin`) and what proves a node may join (`secret`).

    `url` is ws://host:port/path, wss://host/path or unix:///absolute/path.sock; http and https are stored as
    ws and wss, scheme and host in lower case. Raises AddressError for any other url.
    """

    url: str
    pin: bytes = field(repr=False)
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.pin) != PIN_BYTES or len(self.secret) != SECRET_BYTES:
            raise LocalProtocolError(f"pin and secret are {PIN_BYTES} and {SECRET_BYTES} bytes")
        object.__setattr__(self, "url", _canonical_url(self.url))

    @classmethod
    def parse(cls, text: str) -> JoinAddress:
        """The address in `text`: alone, quoted, wrapped over lines, or inside a whole pasted command.

        Raises AddressError, whose sentence tells an empty, absent, cut and altered address apart. It repeats
        nothing of the text, which may hold the secret.
        """
        compact = _INSERTED.sub("", text)
        if not compact.strip(_QUOTES):
            raise AddressError(_EMPTY)
        prefix = _PREFIX.search(compact)
        if prefix is None:
            raise AddressError(_ABSENT)
        url, _, rest = compact[prefix.end() :].partition("#")
        token = _TOKEN.match(rest)
        count = 0 if token is None else len(token.group())
        if token is None or count < TOKEN_CHARACTERS:
            raise AddressError(_CUT.format(count=count))
        raw = base64.urlsafe_b64decode(token.group() + "=")
        pin, secret = raw[:PIN_BYTES], raw[PIN_BYTES : PIN_BYTES + SECRET_BYTES]
        try:
            address = cls(url, pin, secret)
        except AddressError:
            raise AddressError(_ALTERED) from None
        if address._token() != token.group():
            raise AddressError(_ALTERED)
        return address

    @property
    def text(self) -> str:
        """The whole line, secret included: to print once for the person who runs the head, never to log."""
        return f"tunnel+{self.url}#{self._token()}"

    @property
    def unix_path(self) -> str | None:
        """The socket's path of a hub on this machine (unix://), None of one reached by host and port."""
        return unquote(self.url.removeprefix("unix://")) if self.url.startswith("unix:") else None

    def __str__(self) -> str:
        """The address without its secret, safe to show and log; the pin's first characters tell two apart."""
        return f"tunnel+{self.url}#{self._token()[:8]}…"

    def _token(self) -> str:
        digest = hashlib.sha256(b"tunnel address v1" + self.url.encode() + self.pin + self.secret).digest()
        raw = self.pin + self.secret + digest[:CHECKSUM_BYTES]
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def unix_url(path: str) -> str:
    """The `url` of a hub that listens on the unix socket at the absolute `path`."""
    return f"unix://{quote(path)}"


def _canonical_url(url: str) -> str:
    refusal = AddressError(
        f"{url!r} cannot be the hub's address: it is ws://host:port/path, wss://host/path or unix:///path."
    )
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - the property checks that it is a number below 65536
    except ValueError:
        raise refusal from None
    scheme = _SCHEMES.get(parts.scheme)
    # "@" is in no address: credentials in a URL would be shown wherever it is.
    if scheme is None or not _URL.fullmatch(url):
        raise refusal
    if scheme == "unix":
        if parts.netloc or parts.query or not parts.path.startswith("/"):
            raise refusal
        return f"unix://{parts.path}"
    if not parts.hostname:
        raise refusal
    return parts._replace(scheme=scheme, netloc=parts.netloc.lower()).geturl()
