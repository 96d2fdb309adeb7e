"""The inner TLS 1.3 between a node and the hub, who they are, and the proof of the secret that lets a node in.

ngrok's edge ends the outer TLS and reads what passes, so a second TLS runs inside it, end to end. The node knows the
hub by the SHA-256 of its self-signed certificate (the pin in the join address), and shows, inside that TLS, that it
holds the address's secret. Keeping the identity on disk is up to the application; framing is `tunnel.frames`'.

Sans-I/O: bytes in, bytes out, over `ssl`'s memory BIOs. There are two exceptions: `server_context` passes the key
through a file because the standard library takes only file names, and `HubIdentity.create` draws a random key.
"""

from __future__ import annotations

import base64
import contextlib
import enum
import hashlib
import hmac
import os
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tunnel.address import SECRET_BYTES
from tunnel.errors import IdentityError, LocalProtocolError, PinMismatch, RemoteProtocolError, SessionDamaged

__all__ = [
    "CHALLENGE_BYTES",
    "HANDSHAKE_LIMIT",
    "PROOF_BYTES",
    "HubIdentity",
    "SecureSession",
    "make_challenge",
    "proof_holds",
    "prove",
    "server_context",
]

HANDSHAKE_LIMIT = 32 * 1024
"""Most bytes OpenSSL is given from a peer whose handshake has not ended; an honest one needs under 2 KiB."""

CHALLENGE_BYTES = 32

PROOF_BYTES = 32

VALIDITY = timedelta(days=30 * 365)
"""A node checks the pin and not the dates; they only have to look sane to a person who inspects them."""

# OpenSSL gives one TLS record at most per read: 2**14 bytes of plaintext (RFC 8446, section 5.1).
_RECORD_BYTES = 16 * 1024
# Ciphertext goes through OpenSSL's buffer in slices that stay in the CPU's cache, whatever the caller's batches.
_SLICE_BYTES = 128 * 1024

_SECRET_PEM = re.compile(rb"-----BEGIN TUNNEL SECRET-----\s+([A-Za-z0-9+/=]+)\s+-----END TUNNEL SECRET-----\s*")


@dataclass(frozen=True, slots=True)
class HubIdentity:
    """What makes a hub the same hub after a restart: its key, its certificate and the secret of its address."""

    key_pem: bytes = field(repr=False)
    certificate_pem: bytes = field(repr=False)
    secret: bytes = field(repr=False)
    pin: bytes  # SHA-256 of the certificate's DER

    @classmethod
    def create(cls, now: float) -> HubIdentity:
        """A new identity with an EC P-256 key; `now` is seconds since the epoch."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tunnel hub")])
        # A day earlier, because the clock of the machine that inspects the certificate may be behind.
        begins = datetime.fromtimestamp(now, UTC) - timedelta(days=1)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(begins + VALIDITY)
            .sign(key, hashes.SHA256())
        )
        key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pin = certificate.fingerprint(hashes.SHA256())
        return cls(key_pem, certificate.public_bytes(Encoding.PEM), os.urandom(SECRET_BYTES), pin)

    def to_pem(self) -> bytes:
        """Key, certificate and secret as one PEM text, for a file that only its owner may read."""
        secret = base64.b64encode(self.secret)
        return (
            self.key_pem
            + self.certificate_pem
            + b"-----BEGIN TUNNEL SECRET-----\n%b\n-----END TUNNEL SECRET-----\n" % secret
        )

    @classmethod
    def from_pem(cls, pem: bytes) -> HubIdentity:
        """The identity that `to_pem` wrote; raises IdentityError when it is damaged."""
        block = _SECRET_PEM.search(pem)
        if block is None:
            raise IdentityError("The hub's identity is damaged: it holds no secret.")
        try:
            secret = base64.b64decode(block.group(1), validate=True)
            key = load_pem_private_key(pem, password=None)
            certificate = x509.load_pem_x509_certificate(pem)
        except (ValueError, TypeError) as error:  # binascii.Error is a ValueError; TypeError: the key is encrypted
            raise IdentityError("The hub's identity is damaged: it cannot be read.") from error
        if len(secret) != SECRET_BYTES or key.public_key() != certificate.public_key():
            raise IdentityError("The hub's identity is damaged: its parts do not belong together.")
        key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pin = certificate.fingerprint(hashes.SHA256())
        return cls(key_pem, certificate.public_bytes(Encoding.PEM), secret, pin)


def server_context(identity: HubIdentity) -> ssl.SSLContext:
    """The TLS settings of a hub with this identity, made once and shared by all its sessions.

    Raises IdentityError when OpenSSL refuses the key or certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # No tickets, so no resumption: every session proves the certificate, and the edge cannot link two of them.
    context.num_tickets = 0
    with _readable_only_here(identity.key_pem + identity.certificate_pem) as path:
        try:
            context.load_cert_chain(path)
        except ssl.SSLError as error:
            raise IdentityError("The hub's identity is damaged: its key or certificate is refused.") from error
    return context


def _client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # No authority vouches for the hub and its name means nothing: the pin decides, in SecureSession. The peer's
    # proof that it has the certificate's key (RFC 8446, section 4.4.3) is checked by OpenSSL all the same.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@contextlib.contextmanager
def _readable_only_here(content: bytes) -> Iterator[str]:
    """A file name for `content` that lasts as long as the block: `load_cert_chain` takes only file names.

    A memfd is memory with a name under /proc, so the key never reaches a disk.
    """
    descriptor = os.memfd_create("tunnel-identity", os.MFD_CLOEXEC)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{descriptor}"


class _State(enum.Enum):
    """Where a secure session stands; the last one is final."""

    HANDSHAKE = "handshake"
    ESTABLISHED = "established"
    FAILED = "failed"


class SecureSession:
    """One end of an inner TLS 1.3 session: ciphertext in, plaintext out, and the other way round.

    1. What `data_to_send` returns goes to the peer, after every call and once at the start (a node's greeting).
    2. What arrives goes to `receive`. While `established` is False, `send` is an error and `receive` returns b"".
    3. A node's session checks the pin the moment the handshake ends: before that, and if the pin is wrong, not one
       byte of the application leaves or is delivered.
    4. After an error the session is dead. What `data_to_send` then returns is TLS's alert; sending it is optional.
    """

    def __init__(self, context: ssl.SSLContext, pin: bytes | None) -> None:
        self._pin = pin  # None at the hub, whose peers are known by their proof of the secret
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=pin is None)
        self._state = _State.HANDSHAKE
        self._handshake_bytes = 0  # given to OpenSSL before the handshake ended
        self._peer_closed = False
        self._shake_hands()

    @classmethod
    def client(cls, pin: bytes) -> SecureSession:
        """A node's end, for the hub whose certificate has this SHA-256."""
        return cls(_client_context(), pin)

    @classmethod
    def server(cls, context: ssl.SSLContext) -> SecureSession:
        """The hub's end; `context` is what `server_context` made."""
        return cls(context, None)

    @property
    def is_client(self) -> bool:
        """True at a node's end."""
        return self._pin is not None

    @property
    def established(self) -> bool:
        """True from the end of the handshake, pin included, until the session fails."""
        return self._state is _State.ESTABLISHED

    def receive(self, ciphertext: bytes | bytearray | memoryview) -> bytes:
        """The plaintext that `ciphertext` completes, perhaps b""; what follows the peer's close_notify is dropped.

        Raises PinMismatch, or RemoteProtocolError for anything that is not the TLS it should be.
        """
        if self._state is _State.FAILED:
            raise LocalProtocolError("this session has failed and takes nothing more")
        if self._peer_closed:
            return b""
        rest = memoryview(ciphertext)
        plaintext: list[bytes] = []
        if self._state is _State.HANDSHAKE:
            room = HANDSHAKE_LIMIT - self._handshake_bytes
            self._handshake_bytes += len(rest[:room])
            self._incoming.write(rest[:room])
            rest = rest[room:]
            self._shake_hands()
            if self._state is _State.HANDSHAKE:
                return b""
            self._read(plaintext)
        for start in range(0, len(rest), _SLICE_BYTES):
            self._incoming.write(rest[start : start + _SLICE_BYTES])
            self._read(plaintext)
        return b"".join(plaintext)

    def send(self, plaintext: bytes | bytearray | memoryview) -> None:
        """Encrypt `plaintext` for `data_to_send`. Records are 16 KiB, so large batches cost least."""
        if self._state is not _State.ESTABLISHED:
            raise LocalProtocolError(f"nothing can be sent in a session that is in state {self._state.value}")
        rest = memoryview(plaintext)
        while rest:
            rest = rest[self._tls.write(rest) :]

    def data_to_send(self) -> bytes:
        """What to hand to the peer now, perhaps b""."""
        return self._outgoing.read()

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            if self._handshake_bytes < HANDSHAKE_LIMIT:
                return
            self._state = _State.FAILED
            raise RemoteProtocolError(f"the TLS handshake is longer than {HANDSHAKE_LIMIT} bytes") from None
        except ssl.SSLError as error:
            self._state = _State.FAILED
            raise RemoteProtocolError(f"the TLS handshake failed: {error.reason}") from error
        if self._pin is not None:
            self._check_pin(self._pin)
        self._state = _State.ESTABLISHED

    def _check_pin(self, pin: bytes) -> None:
        certificate = self._tls.getpeercert(binary_form=True) or b""
        if not hmac.compare_digest(hashlib.sha256(certificate).digest(), pin):
            self._state = _State.FAILED
            self._outgoing.read()  # a stranger does not even get the end of the handshake
            raise PinMismatch

    def _read(self, plaintext: list[bytes]) -> None:
        try:
            while chunk := self._tls.read(_RECORD_BYTES):
                plaintext.append(chunk)
            self._peer_closed = True
        except ssl.SSLWantReadError:
            return
        except ssl.SSLZeroReturnError:
            self._peer_closed = True
        except ssl.SSLError as error:
            self._state = _State.FAILED
            raise SessionDamaged(f"the TLS session is damaged: {error.reason}") from error


def make_challenge(entropy: bytes) -> bytes:
    """The hub's question to a node that wants to join, from `entropy`: 32 random bytes, new each time."""
    if len(entropy) < CHALLENGE_BYTES:
        raise LocalProtocolError(f"a challenge needs {CHALLENGE_BYTES} random bytes, not {len(entropy)}")
    return hashlib.sha256(b"tunnel challenge v1" + entropy).digest()


def prove(secret: bytes, pin: bytes, challenge: bytes) -> bytes:
    """The answer that only a holder of the secret can give, for this hub's certificate and this challenge alone."""
    if len(challenge) != CHALLENGE_BYTES:
        raise LocalProtocolError(f"a challenge is {CHALLENGE_BYTES} bytes, not {len(challenge)}")
    return hmac.digest(secret, b"tunnel proof v1" + pin + challenge, "sha256")


def proof_holds(secret: bytes, pin: bytes, challenge: bytes, proof: bytes) -> bool:
    """Whether `proof` is what `prove` returns; a wrong one takes as long as a right one."""
    return hmac.compare_digest(prove(secret, pin, challenge), proof)
