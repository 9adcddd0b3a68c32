"""The run file: other programs use it to find the supervisor that holds a journal.

It lies beside the journal, readable by its owner alone, and names the cluster and the process that started it. It is
only a hint: a supervisor runs if it answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
from dataclasses import asdict, field
from pathlib import Path
from typing import TYPE_CHECKING

from actors.runtime.ray_environment import Address
from brokers.frozen import dataclass
from brokers.kit.foreign_row import read_json
from brokers.kit.whole_file import write_whole

if TYPE_CHECKING:
    from supervisor.config.models import Configuration
    from supervisor.supervision.local_door import Door


@dataclass(frozen=True, slots=True)
class RunFile:
    """The content of a run file. ``detached``: the cluster outlives the command that started it. ``door`` is the
    supervisor's local socket, ``token`` its secret. ``dashboard`` is the address of Ray's dashboard in a cluster of its
    own, ``logs`` the folder of that cluster's logs.
    """

    address: str
    auth_mode: str | None
    namespace: str
    pid: int
    detached: bool
    door: str | None = None
    token: str | None = field(default=None, repr=False)
    dashboard: str | None = None
    logs: str | None = None

    @property
    def local_door(self) -> Door | None:
        """The supervisor's local socket, if it has one."""
        if self.door is None or self.token is None:
            return None
        from supervisor.supervision.local_door import Door

        return Door(self.door, bytes.fromhex(self.token))

    @property
    def cluster(self) -> Address:
        """The address of the cluster."""
        return Address(self.address, self.auth_mode)


def path_of(configuration: Configuration) -> Path:
    """The path of the run file of a configuration's journal."""
    return configuration.state_dir / f"{configuration.journal_file}.run.json"


class NotWritable(Exception):
    """The run file cannot be written. ``path`` is where, ``found`` the system's error."""

    def __init__(self, path: str, found: str) -> None:
        super().__init__(path, found)
        self.path = path
        self.found = found

    def __str__(self) -> str:
        return (
            f"the run file {self.path} cannot be written: {self.found}. The journal lies beside it and could not be "
            "written either: make room there or make the directory writable, or name another one in journal.url"
        )


def write(configuration: Configuration, run: RunFile) -> Path:
    """Write the run file, as a whole or not at all. Raises :class:`NotWritable`."""
    path = path_of(configuration)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(asdict(run)).encode())
    except OSError as error:
        raise NotWritable(str(path), error.strerror or str(error)) from error
    return path


def read(configuration: Configuration) -> RunFile | None:
    """The run file, if there is a readable one."""
    return read_from(path_of(configuration))


def read_from(path: Path) -> RunFile | None:
    """The run file at a path, if there is a readable one."""
    try:
        said = read_json(path.read_bytes())
        return RunFile(
            str(said["address"]),
            said["auth_mode"],
            str(said["namespace"]),
            int(said["pid"]),
            bool(said["detached"]),
            said.get("door"),
            said.get("token"),
            said.get("dashboard"),
            said.get("logs"),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def of_another(configuration: Configuration) -> str | None:
    """The owner of a run file that this user may not read; ``None`` where it may, or there is none."""
    return of_another_at(path_of(configuration))


def of_another_at(path: Path) -> str | None:
    """The owner of a run file at a path that this user may not read; ``None`` where it may, or there is none."""
    try:
        os.close(os.open(path, os.O_RDONLY))
    except PermissionError:
        return owner_of(path)
    except OSError:
        pass
    return None


def owner_of(path: Path) -> str:
    """The user who owns a file, or the nearest folder above it that can be seen."""
    for place in (path, *path.parents):
        with contextlib.suppress(OSError):
            uid = place.stat().st_uid
            with contextlib.suppress(KeyError):
                return f"user {pwd.getpwuid(uid).pw_name}"
            return f"user {uid}"
    return "another user"


def remove(configuration: Configuration) -> None:
    """Remove the run file and the door that it names; does nothing when there is none."""
    from supervisor.supervision import local_door

    run = read(configuration)
    if run is not None and run.door is not None:
        local_door.remove(run.door)
    path_of(configuration).unlink(missing_ok=True)
