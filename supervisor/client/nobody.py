"""Whether there clearly is no supervisor, from facts that cost next to nothing: the run file, its process, a port.

The laws of this module: it says so only where :func:`supervisor.client.connection.open_connection` would, and in the
same words (a test holds them beside each other); everything else is left to that. It imports neither Ray nor the models
of a configuration: on a machine that is busy otherwise, each tenth of a second of processor time takes seconds.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from actors.runtime.cluster_probe import answers, is_address, listens, lives
from supervisor.client.run_file import of_another_at, owner_of, read_from
from supervisor.errors import NotRunning

DEFAULT_CONFIG = "config/accounts.yaml"
REMEDY = "Start one with: python -m supervisor start {}"
REMEDY_OF_ADDRESS = "Give the host:port of the cluster that it runs on, or leave address out"
NO_CLUSTER = "no Ray cluster runs on this machine, and RAY_ADDRESS is not set to one"
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,30}")
_JOURNAL_KEYS = frozenset({"url", "heads", "keep_slices"})
_SQLITE, _DEFAULT_URL = "sqlite:///", "sqlite:///var/journal.db"


def nobody(config: str | os.PathLike[str] | None, address: str | None, timeout_s: float) -> NotRunning | None:
    """Why no supervisor answers there; ``None`` where one may, or where more than this is needed to know."""
    if "ray" in sys.modules:
        return None  # this process may be connected to its cluster
    remedy = REMEDY.format(config or DEFAULT_CONFIG) if address is None else REMEDY_OF_ADDRESS
    if address is not None:
        return _unreachable(f"the Ray cluster at {address}", address, remedy, timeout_s)
    if config is not None and (os.fspath(config) != DEFAULT_CONFIG or Path(config).exists()):
        path = _run_file_of(config)
        return None if path is None else _nobody_of(path, remedy, timeout_s)
    if clusters_of_this_machine() or owners_of_others():
        return None
    looked_for = "" if config is None else f"there is no {DEFAULT_CONFIG} in {Path.cwd()}; "
    return NotRunning(f"{looked_for}{NO_CLUSTER}", remedy)


def _nobody_of(path: Path, remedy: str, timeout_s: float) -> NotRunning | None:
    run = read_from(path)
    if run is None:
        return None if of_another_at(path) is not None else NotRunning(f"there is no run file {path}", remedy)
    named_by = f"{path} names process {run.pid} at {run.address}"
    if not lives(run.pid):
        return NotRunning(f"{named_by}, which has ended", remedy)
    return _unreachable(named_by, run.address, remedy, timeout_s)


def _unreachable(named_by: str, gcs: str, remedy: str, timeout_s: float) -> NotRunning | None:
    if not is_address(gcs):
        return NotRunning(f"{gcs!r} is not the host:port of a Ray cluster", remedy)
    try:
        listens(gcs, timeout_s)
        answers(gcs, timeout_s)
    except OSError as error:
        found = f"{named_by}, which does not answer. If it was killed, start it again ({error.strerror or error})"
        return NotRunning(found, remedy)
    return None


def _run_file_of(config: str | os.PathLike[str]) -> Path | None:
    """The run file of a configuration of a cluster of its own whose ``ray`` and ``journal`` are beyond doubt."""
    from supervisor.config.yaml_source import read

    try:
        document = read(Path(config).read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError):
        return None
    if document.findings or not isinstance(document.data, dict):
        return None
    ray, journal = document.data.get("ray", {}), document.data.get("journal", {})
    if not isinstance(ray, dict) or not isinstance(journal, dict) or not journal.keys() <= _JOURNAL_KEYS:
        return None
    namespace, url = ray.get("namespace", "x"), journal.get("url", _DEFAULT_URL)
    sure = (
        ray.keys() <= {"address", "namespace", "require_auth"}
        and ray.get("address", "local") == "local"
        and isinstance(namespace, str)
        and _WORD.fullmatch(namespace) is not None
        and isinstance(ray.get("require_auth", True), bool)
        and isinstance(journal.get("keep_slices", False), bool)
    )
    if not sure or not isinstance(url, str) or not url.startswith(_SQLITE):
        return None
    path = url.removeprefix(_SQLITE)
    if not path or path.startswith(":") or path.endswith("/") or set("$?") & set(path):
        return None
    folder = os.path.dirname(os.path.abspath(config))
    file = Path(os.path.normpath(os.path.join(folder, os.path.expanduser(path))))
    return file.parent / f"{file.name}.run.json"


def clusters_of_this_machine() -> list[str]:
    """host:port of the clusters that Ray's own ``auto`` would choose from. A loopback cluster needs a setting before
    Ray is imported, so the clusters must be known before that."""
    named = os.environ.get("RAY_ADDRESS")
    if named and named not in ("auto", "local"):
        return [named]
    found: dict[str, None] = {}
    for address, of in _local_clusters():
        if of.stat().st_uid in (os.getuid(), os.geteuid()):
            found[address] = None
    if not found and not owners_of_others():
        with contextlib.suppress(OSError):
            current = Path(tempfile.gettempdir(), "ray", "ray_current_cluster").read_text(encoding="utf-8").strip()
            found |= {current: None} if current else {}
    return list(found)


def owners_of_others() -> list[str]:
    """The other users who have a cluster on this machine."""
    ours = (os.getuid(), os.geteuid())
    return sorted({owner_of(of) for _, of in _local_clusters() if of.stat().st_uid not in ours})


def _local_clusters() -> Iterator[tuple[str, Path]]:
    """Each cluster's host:port, from a process of it, with that process's folder."""
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            for address in re.findall(r"--gcs-address=([^\0]+:\d+)", command.read_text(errors="replace")):
                yield address, command.parent
