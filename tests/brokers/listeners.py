"""What may listen on a port that a broker was expected on: each a context that gives its port on loopback."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import zmq
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Listening = AbstractContextManager[int]


@contextmanager
def taking(take: Callable[[socket.socket], None], port: int = 0) -> Iterator[int]:
    """Takes connections, does this with each, and closes them at the end."""
    listening = socket.create_server(("127.0.0.1", port))
    taken: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            taken.append(connection)
            take(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()
        for connection in taken:
            connection.close()


def silent() -> Listening:
    """Takes connections and says nothing."""
    return taking(lambda _: None)


def closing() -> Listening:
    """Takes connections and closes them."""
    return taking(lambda connection: connection.close())


def resetting() -> Listening:
    """Takes connections and resets them."""

    def reset(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    return taking(reset)


def saying(greeting: bytes) -> Listening:
    """Greets first, and then says nothing more."""
    return taking(lambda connection: connection.sendall(greeting))


@contextmanager
def answering(answer: Callable[[bytes], Iterator[bytes]]) -> Iterator[str]:
    """A server that sends what ``answer`` yields for a request's head, and then hangs up; gives its URL."""

    def take(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            for piece in answer(connection.recv(65536)):
                connection.sendall(piece)

    with taking(take) as port:
        yield f"http://127.0.0.1:{port}"


def http_answer(body: bytes, status: str = "200 OK", head: str = "Content-Type: application/json\r\n") -> bytes:
    """One answer of HTTP, after which the connection is closed."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{head}\r\n".encode() + body


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html></html>")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is http.server's
        """Say nothing."""


class _WebServer(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """What comes is no request: that is what it is for."""


@contextmanager
def web_server(tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A web server, which waits for a whole line of a request; with TLS where a context is given."""
    server = _WebServer(("127.0.0.1", 0), _Page)
    if tls is not None:
        # The handshake is made by the thread of the connection, not by the one that accepts.
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def tls_server() -> Iterator[int]:
    """A web server with TLS and a certificate that nobody vouches for."""
    with TemporaryDirectory() as folder:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self_signed(Path(folder) / "server.pem"))
        with web_server(context) as port:
            yield port


def self_signed(path: Path) -> Path:
    """A key and its certificate for localhost, which it vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    began = datetime.now(UTC) - timedelta(minutes=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, began, began + timedelta(days=1))
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(private + builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return path


@contextmanager
def zeromq(kind: int) -> Iterator[int]:
    """A ZeroMQ socket of this kind, which nobody serves."""
    context = zmq.Context()
    bound = context.socket(kind)
    try:
        yield bound.bind_to_random_port("tcp://127.0.0.1")
    finally:
        context.destroy(linger=0)


SSH = b"SSH-2.0-OpenSSH_9.6\r\n"
MAIL = b"220 mail.example ESMTP\r\n"
TLS_ALERT = b"\x15\x03\x03\x00\x02\x02\x46"
BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\n\r\n<html>"
