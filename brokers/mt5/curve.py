"""CURVE keys of a gateway and of its clients (ZeroMQ documentation, zmq_curve), from the certificate files that
``zmq.auth.create_certificates`` writes."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Any, Self

import zmq
import zmq.auth

from brokers.errors import Refused
from brokers.frozen import dataclass


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """A client's own keys, and the gateway's public key."""

    public: bytes
    secret: bytes = field(repr=False)
    server: bytes

    @classmethod
    def read(cls, account: str, own: str, server: str) -> Self:
        """Read a client's secret certificate file, and a gateway's public one. Raises ``Refused``."""
        public, secret = certificate(account, own)
        if secret is None:
            raise Refused(f"read {own}", account, "it has no secret key", "Give the file that ends in .key_secret")
        return cls(public, secret, certificate(account, server)[0])

    def secure(self, socket: zmq.Socket[Any]) -> None:
        """Use them on a socket that is not connected yet."""
        socket.curve_publickey, socket.curve_secretkey, socket.curve_serverkey = self.public, self.secret, self.server


def certificate(account: str, path: str) -> tuple[bytes, bytes | None]:
    """Public and secret key of a certificate file. Raises ``Refused``."""
    try:
        return zmq.auth.load_certificate(Path(path))
    except (OSError, ValueError) as error:
        remedy = "Make certificates with zmq.auth.create_certificates, and give the path of the file"
        raise Refused(f"read the CURVE certificate {path}", account, str(error), remedy) from None
