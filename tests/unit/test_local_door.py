"""The supervisor's local socket: who is let in, what may be asked, and what is said where nobody answers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from actors.names import SUPERVISOR
from actors.runtime.ports import ActorUnavailable, CallError, CallTimeout
from supervisor.changes.applied_configuration import Run
from supervisor.changes.requests import ChangeRefused
from supervisor.client import run_file
from supervisor.client.local_door import DoorClient
from supervisor.client.run_file import RunFile
from supervisor.config.loader import load
from supervisor.supervision.local_door import Door, DoorKeeper, new_door, remove
from tests.unit.hall import Hall

TOKEN = b"t" * 32
NOBODY = "[{name: off, broker: paper, enabled: false, instruments: [EURUSD]}]"


async def _echo(method: str, args: tuple[object, ...]) -> object:
    match method:
        case "refuse":
            raise ChangeRefused("it", "it is not so", "Do another thing.")
        case "odd":
            raise Odd(lambda: None)
        case "hang":
            await asyncio.Event().wait()
        case "end":
            raise asyncio.CancelledError
    return method, args


class Odd(Exception):
    """An error that cannot be pickled."""


@asynccontextmanager
async def a_door(directory: Path) -> AsyncIterator[Door]:
    door = Door(str(directory / "door"), TOKEN)
    keeper = DoorKeeper(door, _echo)
    await keeper.serve()
    try:
        yield door
    finally:
        keeper.close()


def _call(door: Door, method: str, *args: object, timeout_s: float = 5.0, actor: str = SUPERVISOR) -> Awaitable[Any]:
    return asyncio.to_thread(DoorClient(door).call, actor, method, *args, timeout_s=timeout_s)


async def test_a_question_is_answered_and_an_error_is_the_method_s_own(tmp_path: Path) -> None:
    async with a_door(tmp_path) as door:
        assert await _call(door, "status", 1, "x" * 3_000_000) == ("status", (1, "x" * 3_000_000))
        with pytest.raises(ChangeRefused, match="it is not so"):
            await _call(door, "refuse")
        with pytest.raises(RuntimeError, match=r"^Odd: "):
            await _call(door, "odd")


async def test_only_its_owner_comes_in(tmp_path: Path) -> None:
    async with a_door(tmp_path) as door:
        assert stat.S_IMODE(os.stat(door.path).st_mode) == 0o600
        with pytest.raises(ActorUnavailable):
            await _call(Door(door.path, b"x" * 32), "status")


Given = Callable[[Door], Awaitable[Any]]


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        (lambda door: _call(Door(door.path + "?", TOKEN), "status"), ActorUnavailable, "No such file"),
        (lambda door: _call(door, "hang", timeout_s=0.05), CallTimeout, r"no answer within 0\.05 s"),
        (lambda door: _call(door, "book", actor="fx/EUR_USD"), ActorUnavailable, "cannot be reached through"),
    ],
    ids=["there is none", "it hangs", "another actor"],
)
async def test_where_nobody_answers_that_is_said(
    tmp_path: Path, asked: Given, error: type[CallError], words: str
) -> None:
    async with a_door(tmp_path) as door:
        with pytest.raises(error, match=words):
            await asked(door)


def test_a_time_out_of_the_program_itself_is_not_taken_for_a_silent_supervisor(tmp_path: Path) -> None:
    """A signal's handler raises it in the middle of the call, as the time limit of a notebook's cell does."""

    def limit(*_: object) -> None:
        raise TimeoutError("the cell's own limit")

    path = str(tmp_path / "door")
    before = signal.signal(signal.SIGALRM, limit)
    try:
        with socket.socket(socket.AF_UNIX) as silent, ThreadPoolExecutor() as aside:
            silent.bind(path)
            silent.listen()
            silent.settimeout(30)
            calling = threading.get_ident()

            def come_while_it_waits() -> None:
                with silent.accept()[0] as asked:
                    assert asked.recv(1)
                    signal.pthread_kill(calling, signal.SIGALRM)
                    while asked.recv(4096):
                        pass

            came = aside.submit(come_while_it_waits)
            with pytest.raises(TimeoutError, match="the cell's own limit"):
                DoorClient(Door(path, TOKEN)).call(SUPERVISOR, "status", timeout_s=30)
            came.result(timeout=30)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_it_lies_in_a_directory_of_its_owner_alone_and_goes_with_it() -> None:
    door = new_door()
    assert door is not None
    directory = Path(door.path).parent
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert TOKEN.hex() not in repr(Door("there", TOKEN))

    remove(door.path)

    assert not directory.exists()


def test_the_run_file_names_the_door_and_one_of_before_has_none(tmp_path: Path) -> None:
    path = tmp_path / "accounts.yaml"
    path.write_text(f"journal: {{url: 'sqlite:///{tmp_path}/journal.db'}}\naccounts: {NOBODY}\n")
    configuration = load(path)
    door = Door("/tmp/somewhere/door", TOKEN)  # noqa: S108 - nothing is there
    run = RunFile("127.0.0.1:1", "token", "test", 1, False, door.path, door.token.hex())

    written = run_file.write(configuration, run)

    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    found = run_file.read(configuration)
    assert found is not None
    assert found.local_door == door
    assert TOKEN.hex() not in repr(found)
    written.write_text('{"address": "a:1", "auth_mode": null, "namespace": "n", "pid": 1, "detached": false}')
    former = run_file.read(configuration)
    assert former is not None
    assert former.local_door is None


async def test_a_supervisor_answers_at_its_door_and_keeps_to_itself_what_is_its_own(tmp_path: Path) -> None:
    hall = Hall(tmp_path, NOBODY)
    door = Door(str(tmp_path / "door"), TOKEN)
    await hall.cluster.kill(SUPERVISOR)
    supervisor = hall.new_supervisor(Run("one", {}, None, door))
    while not os.path.exists(door.path):
        await asyncio.sleep(0)

    assert await _call(door, "pid") == os.getpid()
    assert (await _call(door, "status"))["supervisor"]["state"] == "RUNNING"
    with pytest.raises(ValueError, match="no method '_desire'"):
        await _call(door, "_desire")
    await supervisor.stop()
