"""Serves secrets from the environment only to the processes that request them.

An environment is inherited: a secret in that of ``start`` would be in that of every process of a cluster, though only
an account's actor needs it. So the process that starts a cluster first takes the secrets out of its environment, and
serves them over a Unix socket in a folder of its own, to processes of its own user. That keeps nobody out who runs code
as that user; it keeps secrets out of the environments that are shown, logged and passed on.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import socketserver
import struct
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, MutableMapping

KEEPER = "RECONCILIATION_SECRETS"
"""The environment variable that names the socket."""
_ANSWER_WITHIN_S = 10.0
_LONGEST = 100_000
_PEER = struct.Struct("3i")


def asked(name: str, environ: Mapping[str, str]) -> str | None:
    """The value of an environment variable, from the keeper; ``None`` where there is no keeper, or it does not have
    that variable."""
    path = environ.get(KEEPER)
    if path is None:
        return None
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as keeper:
        keeper.settimeout(_ANSWER_WITHIN_S)
        keeper.connect(path)
        keeper.sendall(name.encode() + b"\n")
        answer = b""
        while part := keeper.recv(_LONGEST):
            answer += part
        if answer[:1] == b"+":
            return answer[1:].decode()
    return None


@contextlib.contextmanager
def kept(names: Iterable[str], environ: MutableMapping[str, str]) -> Iterator[None]:
    """Take these variables, where set, out of the environment and serve them to processes that request them. At the end
    of the block they are put back."""
    held = {name: environ[name] for name in names if name in environ}
    if not held:
        yield
        return
    folder = tempfile.mkdtemp(prefix="supervisor-")  # readable by its owner alone
    path = os.path.join(folder, "secrets")
    try:
        server = _Server(path, held)
    except OSError:  # no path is short enough for a socket: they stay where they are
        shutil.rmtree(folder, ignore_errors=True)
        yield
        return
    threading.Thread(target=server.serve_forever, name="secrets", daemon=True).start()
    for name in held:
        del environ[name]
    environ[KEEPER] = path
    try:
        yield
    finally:
        environ.pop(KEEPER, None)
        environ.update(held)
        server.shutdown()
        server.server_close()
        shutil.rmtree(folder, ignore_errors=True)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str, held: Mapping[str, str]) -> None:
        self.held = held
        super().__init__(path, _Visit)
        os.chmod(path, 0o600)

    def verify_request(self, request: object, client_address: object) -> bool:
        """Accept only our own user, where the system names the peer."""
        del client_address
        if not isinstance(request, socket.socket) or not hasattr(socket, "SO_PEERCRED"):
            return True
        credentials = request.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        return int(_PEER.unpack(credentials)[1]) in (os.geteuid(), 0)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a client that went away."""


class _Visit(socketserver.StreamRequestHandler):
    timeout = _ANSWER_WITHIN_S

    def handle(self) -> None:
        assert isinstance(self.server, _Server)  # noqa: S101 - it makes these
        name = self.rfile.readline(_LONGEST).decode(errors="replace").strip()
        value = self.server.held.get(name)
        self.wfile.write(b"-" if value is None else b"+" + value.encode())
