"""Secrets from the environment, for those processes alone that ask for them.

An environment is inherited: whatever ``start`` is given would be in that of every process of a cluster, where none but
an account's actor needs it. So whoever starts a cluster takes its secrets out of its environment before, and gives them
out over a Unix socket in a folder of its own, to processes of its own user. It keeps nobody out who runs
code as that user; it keeps secrets out of the environments that are shown, logged and passed on.
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
    """The value of an environment variable that a keeper has; ``None`` where there is no keeper, or it has none of that
    name."""
    path = environ.get(KEEPER)
    if path is None:
        return None
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as keeper:
        keeper.settimeout(_ANSWER_WITHIN_S)
        keeper.connect(path)
        keeper.sendall(name.encode() + b"\n")
        said = b""
        while part := keeper.recv(_LONGEST):
            said += part
        if said[:1] == b"+":
            return said[1:].decode()
    return None


@contextlib.contextmanager
def kept(names: Iterable[str], environ: MutableMapping[str, str]) -> Iterator[None]:
    """Take these variables out of the environment, as far as they are set, and give them to whoever asks, until the
    block is left; then they are back."""
    held = {name: environ[name] for name in names if name in environ}
    if not held:
        yield
        return
    folder = tempfile.mkdtemp(prefix="supervisor-")  # readable by its owner alone
    path = os.path.join(folder, "secrets")
    try:
        server = _Server(path, held)
    except OSError:  # no place that is short enough: they stay where they are
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
        """Of our own user alone, where the system tells."""
        del client_address
        if not isinstance(request, socket.socket) or not hasattr(socket, "SO_PEERCRED"):
            return True
        told = request.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        return int(_PEER.unpack(told)[1]) in (os.geteuid(), 0)

    def handle_error(self, request: object, client_address: object) -> None:
        """A visitor that went away is no news."""


class _Visit(socketserver.StreamRequestHandler):
    timeout = _ANSWER_WITHIN_S

    def handle(self) -> None:
        assert isinstance(self.server, _Server)  # noqa: S101 - it makes these
        name = self.rfile.readline(_LONGEST).decode(errors="replace").strip()
        value = self.server.held.get(name)
        self.wfile.write(b"-" if value is None else b"+" + value.encode())
