"""This process's connection to a Ray cluster: a cluster of our own, on this machine's loopback, or another one."""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from typing import Any

import ray

from actors.runtime.cluster_probe import lives
from actors.runtime.ray_environment import LOOPBACK, Address, ClusterNotUp

SESSIONS_KEPT = 5
"""How many starts' logs are kept."""


def start_or_join(address: str, namespace: str, *, dashboard: bool = True, cpus: int | None = None) -> Address:
    """A cluster of our own on this machine's loopback (``local``), or the one at an address (``auto``, host:port).

    :func:`actors.runtime.ray_environment.prepare` must have been called before this module was imported. A cluster of
    our own ends with this process; one that does not come up raises
    :class:`~actors.runtime.ray_environment.ClusterNotUp`. Joining one whose address does not answer raises
    ``ConnectionError``.
    """
    if address == "local":
        try:
            ray.init(
                address="local",
                _temp_dir=_own_folder(),
                namespace=namespace,
                include_dashboard=dashboard,
                log_to_driver=False,
                logging_level=logging.WARNING,
                num_cpus=cpus,
                _node_ip_address=LOOPBACK,
            )
        except Exception as error:  # Ray raises bare ones for whatever its processes did not do in time
            raise ClusterNotUp(str(error)) from error
        protect_token()
    else:
        ray.init(address=address, namespace=namespace, log_to_driver=False, logging_level=logging.WARNING)
    return Address(ray.get_runtime_context().gcs_address, os.environ.get("RAY_AUTH_MODE"))


def _own_folder() -> str:
    """The folder for the sockets and logs of a cluster of our own. Ray lets every user of the machine read and write
    its folder, and each of its processes restores that: so it is inside a folder of ours that admits nobody else.
    Folders of earlier starts are removed, except for the last few and those whose process lives. Raises ``OSError``."""
    base = os.environ.get("RAY_TMPDIR") or "/tmp"  # noqa: S108 - Ray's own default; a socket's path has at most 108 bytes
    closed = os.path.join(base, f"supervisor-{os.geteuid()}")
    with contextlib.suppress(FileExistsError):
        os.mkdir(closed, 0o700)
    found = os.lstat(closed)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        closed = tempfile.mkdtemp(prefix="supervisor-", dir=base)  # another user has taken the name
    os.chmod(closed, 0o700)
    folder = os.path.join(closed, "ray")
    for old in sorted(glob.glob(os.path.join(glob.escape(folder), "session_2*")))[:-SESSIONS_KEPT]:
        pid = old.rpartition("_")[2]
        if pid.isdigit() and not lives(int(pid)):
            shutil.rmtree(old, ignore_errors=True)
    return folder


def connected_to() -> str | None:
    """host:port of the cluster that this process is connected to, whoever connected it; ``None`` when there is none."""
    return str(ray.get_runtime_context().gcs_address) if ray.is_initialized() else None


_ASKED_BY_ANYBODY = """
import os, sys
os.environ["RAY_AUTH_MODE"] = "disabled"
from ray._raylet import GcsClient
print(GcsClient(address=sys.argv[1]).internal_kv_exists(b"session", b"session", timeout=5))
"""


_PROBE_WITHIN_S = 20.0


def lets_everybody_in(gcs: str) -> bool:
    """Whether the cluster at host:port answers without a token: then everybody who reaches it can run code in it.
    Checked in a process of its own, since Ray reads its settings once."""
    try:
        asked = subprocess.run(  # noqa: S603 - our own words, and an address that was reached already
            [sys.executable, "-c", _ASKED_BY_ANYBODY, gcs], capture_output=True, timeout=_PROBE_WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired:
        return False  # it answers nobody without a token
    return asked.returncode == 0


def leave() -> None:
    """Disconnect; a cluster of our own ends."""
    ray.shutdown()


def dashboard_url() -> str | None:
    """The address of this cluster's Ray dashboard, if it has one."""
    node: Any = ray._private.worker.global_worker.node  # noqa: SLF001 - Ray says it nowhere else
    return f"http://{node.webui_url}" if node is not None and node.webui_url else None


def logs_folder() -> str | None:
    """The folder of this cluster's logs on this machine."""
    node: Any = ray._private.worker.global_worker.node  # noqa: SLF001 - Ray says it nowhere else
    return str(node.get_logs_dir_path()) if node is not None else None


def protect_token() -> None:
    """Ray writes its token readable by everybody on the machine; with it anyone can run code in the cluster."""
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or os.path.expanduser("~/.ray/auth_token")
    if os.path.exists(path):
        os.chmod(path, 0o600)
