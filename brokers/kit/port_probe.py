"""What listens on a port where no connection came about: a plain probe, for the text of an error.

The laws of this module:

* One connection, closed at once, no longer than the given time; it carries no credentials and requests nothing.
* It is for a port where the broker's own protocol has just failed, never for one that is in use.
* Its result names a mistake in the configuration. It proves nothing about an account.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl

from brokers.frozen import dataclass

PROBE_S = 1.0
"""The longest duration of a probe, beside the account's time-out."""

_LISTEN_SHARE = 0.25
_ENOUGH_BYTES = 64
_SHOWN_BYTES = 40


@dataclass(frozen=True, slots=True)
class PortAnswer:
    """What a port does with a stranger. ``unreached`` is why it accepted no connection; else ``said`` is the beginning
    of what it sent, empty where it sent nothing, and ``closed`` is whether it ended the connection."""

    unreached: str | None = None
    said: bytes = b""
    closed: bool = False

    @property
    def protocol(self) -> str | None:
        """The protocol it speaks, where its first bytes show that."""
        return protocol_of(self.said)

    @property
    def words(self) -> str:
        """What it does, for a person."""
        if self.unreached is not None:
            return self.unreached
        if self.said:
            return spoken(self.said)
        return f"it takes connections and {'closes them without a word' if self.closed else 'says nothing'}"


def protocol_of(said: bytes) -> str | None:
    """The protocol of a server by its first bytes: HTTP, TLS, ZeroMQ or SSH.

    TLS (RFC 8446, 5.1): the record types alert (21) and handshake (22), then the major version 3. ZMTP 3.1
    (RFC 37 of the ZeroMQ project): a greeting begins with FF and nine bytes later 7F. SSH (RFC 4253, 4.2): "SSH-".
    """
    start = said.lstrip()[:16].lower()
    if start.startswith((b"http/", b"<!doctype html", b"<html")):
        return "HTTP"
    if said[:1] in (b"\x15", b"\x16") and said[1:2] == b"\x03":
        return "TLS"
    if said[:1] == b"\xff" and said[9:10] in (b"\x7f", b""):
        return "ZeroMQ"
    return "SSH" if said.startswith(b"SSH-") else None


def spoken(said: bytes) -> str:
    """The first bytes of a server, in words."""
    protocol = protocol_of(said)
    return f"it speaks {protocol}" if protocol is not None else f"it began with {said[:_SHOWN_BYTES]!r}"


def unreached(error: OSError) -> str:
    """Why no connection came about, in words."""
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there (connection refused)"
    if isinstance(error, socket.gaierror):
        return f"the host's name cannot be resolved ({error.strerror})"
    if isinstance(error, TimeoutError):
        return "nothing there takes the connection"
    # asyncio replaces the system's text by its own.
    return f"it cannot be reached ({os.strerror(error.errno) if error.errno else str(error) or type(error).__name__})"


async def probe(host: str, port: int, within_s: float) -> PortAnswer:
    """Connect once, listen, send what makes both a TLS and an HTTP server answer, and listen again."""
    said = bytearray()
    try:
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_connection(host, port)
    except ConnectionResetError:
        return PortAnswer(closed=True)
    except OSError as error:  # a TimeoutError is one
        return PortAnswer(unreached=unreached(error))
    except (ValueError, OverflowError) as error:  # an impossible name or port
        return PortAnswer(unreached=f"there is no such address ({error})")
    try:
        closed = await _listen(reader, said, within_s * _LISTEN_SHARE)
        if not said and not closed:
            # A TLS server answers the first half, an HTTP server the empty line that ends what it takes for a request.
            writer.write(_client_hello() + b"\r\n\r\n")
            closed = await _listen(reader, said, within_s * (1 - _LISTEN_SHARE))
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return PortAnswer(said=bytes(said), closed=closed)


async def _listen(reader: asyncio.StreamReader, said: bytearray, for_s: float) -> bool:
    """Collect what comes until the protocol is known; return whether the connection has ended."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(for_s):
            try:
                while len(said) < _ENOUGH_BYTES and protocol_of(bytes(said)) is None:
                    more = await reader.read(_ENOUGH_BYTES)
                    if not more:
                        return True
                    said += more
            except ConnectionError:
                return True
    return False


def _client_hello() -> bytes:
    """The first bytes of a TLS client, for no host in particular."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # nothing is ever sent over it
    context.verify_mode = ssl.CERT_NONE
    sent = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), sent).do_handshake()
    return sent.read()
