"""Keeps a venue in one file, which is replaced whole at each change.

The laws of this module: a crash at any moment leaves the old or the new state. A file that cannot be read is an error,
and never counts as a new venue. One process at a time changes it, any may read it.
"""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from brokers.errors import Malformed, Refused, Unreachable
from brokers.kit.whole_file import write_whole
from brokers.paper.state import State

_STATE = TypeAdapter(State)
_FORMAT = 1


class Store:
    """The state file of one account's venue. A lock beside it, which ends with its process, is the right to write."""

    def __init__(self, account: str, path: Path) -> None:
        self._account = account
        self._path = path
        self._lock = FileLock(path.with_name(path.name + ".lock"), timeout=0, mode=0o600, thread_local=False)

    @property
    def held(self) -> bool:
        """Whether this process may write."""
        return bool(self._lock.is_locked)

    def hold(self) -> None:
        """Acquire the right to write. Raises ``Unreachable`` while another process has it, or no file can be made."""
        attempted = f"become the one that changes {self._path}"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise Unreachable(
                attempted,
                self._account,
                "another process runs this paper venue",
                "It is tried again by itself; nothing is needed where the other one is ending.",
            ) from None
        except OSError as error:
            raise self._unwritable(attempted, error) from None

    def release(self) -> None:
        """Release the right to write. May be called twice."""
        self._lock.release()

    def read(self) -> State | None:
        """The kept state; ``None`` where there is none. Raises ``Malformed`` for a file that cannot be read, and
        ``Refused`` for another account's."""
        attempted = "read the state of its paper venue"
        try:
            state = _STATE.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise self._malformed(attempted, f"{place + ': ' if place else ''}{first['msg']}") from None
        except OSError as error:
            raise self._malformed(attempted, error.strerror or str(error)) from None
        problem = state.problem()
        if state.format != _FORMAT:
            problem = f"it has format {state.format}, and this version reads {_FORMAT}"
        if problem is not None:
            raise self._malformed(attempted, problem)
        if state.account != self._account:
            raise Refused(
                attempted,
                self._account,
                f"{self._path} is that of account {state.account}",
                "Put this account's own state file there.",
            )
        return state

    def write(self, state: State) -> None:
        """Keep a state; it is on disk when this returns. Raises ``Unreachable`` when it could not be written."""
        try:
            write_whole(self._path, _STATE.dump_json(state))
        except OSError as error:
            raise self._unwritable(f"write {self._path}", error) from None

    def _malformed(self, attempted: str, found: str) -> Malformed:
        remedy = (
            "Put the file back from a copy. To begin a new rehearsal remove it and give the account a new name, as the "
            "books of this one know orders and fills that a new venue would not."
        )
        return Malformed(attempted, self._account, f"{self._path} cannot be read: {found}", remedy)

    def _unwritable(self, attempted: str, error: OSError) -> Unreachable:
        found = error.strerror or str(error)
        return Unreachable(attempted, self._account, found, "Make room, and the directory writable for this user.")
