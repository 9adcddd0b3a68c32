"""Whether a Ray cluster is at an address, asked without Ray.

Importing Ray takes half a second of processor time, and joining a cluster that does not answer takes it minutes.
"""

from __future__ import annotations

import os
import socket

ANSWERS_WITHIN_S = 6.0
"""How long something that accepts connections may be silent before it counts as no cluster."""
_IS_ALIVE = "/ray.rpc.NodeInfoGcsService/CheckAlive"
"""A call of Ray's GCS; it need not exist there: that it does not is an answer, too."""


_HIGHEST_PORT = 65_535


def lives(pid: int) -> bool:
    """Whether this machine has a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def is_address(gcs: str) -> bool:
    """Whether this is a host:port."""
    host, _, port = gcs.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) <= _HIGHEST_PORT


def listens(gcs: str, timeout_s: float) -> None:
    """Check that host:port accepts connections. Raises ``OSError``."""
    host, _, port = gcs.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s).close()


def answers(gcs: str, timeout_s: float) -> None:
    """Check that host:port, which accepts connections, answers calls as Ray's GCS does, within ``timeout_s`` and
    ``ANSWERS_WITHIN_S``. A cluster with TLS between its nodes is not asked. Raises ``OSError``."""
    if os.environ.get("RAY_USE_TLS", "0") in ("1", "true"):
        return
    import grpc  # here, as nothing may listen: it takes more processor time than all else that looks

    within_s = min(timeout_s, ANSWERS_WITHIN_S)
    with grpc.insecure_channel(gcs, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(_IS_ALIVE)(b"", timeout=within_s)
        except grpc.RpcError as error:
            match error.code():  # whatever else it refuses the call with, it has answered
                case grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise TimeoutError(f"it accepts connections and answers nothing within {within_s:g} s") from None
                case grpc.StatusCode.UNAVAILABLE:
                    raise ConnectionError("what listens there is no Ray cluster, or has just ended") from None
