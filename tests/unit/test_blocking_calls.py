"""Calls over a socket of this machine by a thread that waits: answers, errors, ends, and who is talked to."""

from __future__ import annotations

import asyncio
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from actors.runtime import blocking_calls, local_calls
from actors.runtime.blocking_calls import BlockingConnection, IdleConnections, connect
from actors.runtime.local_calls import HEADER, Late, NotReached
from actors.runtime.ports import outcome
from tests.unit.called import ERRORS, Spoilt, listens, served

WITHIN_S = 30.0


class Limit(TimeoutError):
    """What a notebook raises in a cell that takes too long."""


def opened(path: str) -> BlockingConnection:
    connection = connect(path)
    assert connection is not None
    return connection


async def called(connection: BlockingConnection, method: str, *args: object, within_s: float = WITHIN_S) -> object:
    """The result of a call by a thread of its own."""
    return outcome(await asyncio.to_thread(connection.call, method, args, within_s))


@pytest.fixture(params=[KeyboardInterrupt, Limit, InterruptedError])
def interrupted(request: pytest.FixtureRequest) -> Iterator[type[BaseException]]:
    """This thread gets this error soon, once."""
    kind: type[BaseException] = request.param

    def interrupt(*_: object) -> None:
        raise kind

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        yield kind
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


async def test_one_call_after_the_other_is_answered(tmp_path: Path) -> None:
    async with served(tmp_path) as (actor, path):
        connection = opened(path)
        for arg in ("x" * 3_000_000, 1, None):
            assert await called(connection, "say", arg) == ("say", (arg,))
            assert connection.is_open
        assert len(actor.began) == 3
        connection.close()


@pytest.mark.parametrize(("method", "kind", "text"), ERRORS)
async def test_an_error_is_the_method_s_own(tmp_path: Path, method: str, kind: type[Exception], text: str) -> None:
    async with served(tmp_path) as (_, path):
        connection = opened(path)
        with pytest.raises(kind) as found:
            await called(connection, method)
        assert str(found.value).startswith(text)
        assert await called(connection, "say") == ("say", ()), "and it goes on"
        connection.close()


async def test_what_cannot_be_read_or_is_too_large_is_an_error_of_that_call_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_calls, "LARGEST_MESSAGE", 1_000_000)
    async with served(tmp_path) as (_, path):
        connection = opened(path)
        for args, text in (((Spoilt(),), "the call cannot be read"), (("x" * 3_000_000,), "say was not sent: 3,000,")):
            with pytest.raises(RuntimeError, match=text):
                await called(connection, "say", *args)
        with pytest.raises(RuntimeError, match="str: its answer cannot be sent"):
            await called(connection, "large")
        assert await called(connection, "say") == ("say", ())
        connection.close()


async def test_an_answer_of_a_class_that_is_not_known_here_is_none(tmp_path: Path) -> None:
    """As through Ray: what the handle does where an actor does not answer, it does here."""
    async with served(tmp_path) as (_, path):
        connection = opened(path)
        with pytest.raises(NotReached, match="the answer cannot be read: invalid literal"):
            await called(connection, "spoilt")
        connection.close()


async def test_an_answer_that_is_too_large_ends_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking_calls, "LARGEST_MESSAGE", 1_000_000)
    async with served(tmp_path) as (_, path):
        connection = opened(path)
        with pytest.raises(NotReached, match=r"it answers with 3,000,0\d\d bytes"):
            await called(connection, "large")
        assert not connection.is_open


async def test_the_answer_to_a_call_that_is_given_up_is_nobody_s(tmp_path: Path) -> None:
    async with served(tmp_path) as (actor, path):
        connection = opened(path)
        with pytest.raises(Late):
            await called(connection, "wait", within_s=0.05)
        assert not connection.is_open
        actor.may_end.set()
        await asyncio.wait_for(actor.ended.wait(), WITHIN_S)


def test_a_call_can_be_interrupted_and_then_the_connection_has_ended(
    tmp_path: Path, interrupted: type[BaseException]
) -> None:
    with listens(str(tmp_path / "socket")):
        connection = opened(str(tmp_path / "socket"))
        with pytest.raises(interrupted):
            connection.call("wait", (), WITHIN_S)
        assert not connection.is_open


def test_one_that_is_interrupted_while_it_is_made_ends_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    made = BlockingConnection.__new__(BlockingConnection)
    del made
    assert unraisable == []


def test_the_end_of_the_process_ends_a_call(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with listens(path) as listening, ThreadPoolExecutor(1) as others:
        waiting, unused = opened(path), opened(path)
        call = others.submit(waiting.call, "wait", (), WITHIN_S)
        for _ in range(2):
            there, _ = listening.accept()
            there.close()
        with pytest.raises(NotReached, match="its process has ended"):
            call.result(WITHIN_S)
        assert not unused.is_open
        idle = IdleConnections()
        idle.give("fx", unused)
        assert idle.take("fx") is None
    assert connect(path) is None, "nobody listens there"


def test_a_process_that_reads_nothing_is_waited_for_no_longer_than_asked(tmp_path: Path) -> None:
    with listens(str(tmp_path / "socket")):
        connection = opened(str(tmp_path / "socket"))
        with pytest.raises(Late):
            connection.call("say", ("x" * 10_000_000,), 0.05)
        assert not connection.is_open


@pytest.mark.parametrize("sent", [0, 7, HEADER.size, HEADER.size + 9])
@pytest.mark.parametrize("ends", [True, False], ids=["it ends", "it is stopped"])
def test_half_an_answer_is_none(tmp_path: Path, sent: int, ends: bool) -> None:
    path = str(tmp_path / "socket")
    answer = pickle.dumps((True, "of another call"))
    with listens(path) as listening:
        connection = opened(path)
        there, _ = listening.accept()
        there.send((HEADER.pack(len(answer), 0) + answer)[:sent])
        if ends:
            there.shutdown(socket.SHUT_WR)
        with there, pytest.raises(NotReached if ends else Late):
            connection.call("say", (), 0.05 if not ends else WITHIN_S)
        assert not connection.is_open


def test_a_process_that_accepts_nobody_is_not_waited_for(tmp_path: Path) -> None:
    """One that is stopped, and was asked for often: Ray asks it, and its time-out ends that."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(0)
        first = opened(path)
        assert connect(path) is None
        first.close()


def test_where_nothing_more_can_be_opened_ray_is_asked(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with listens(path):
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        try:
            assert connect(path) is None
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


ENDED = """
import signal, socket, sys
from actors.runtime.blocking_calls import connect
from actors.runtime.local_calls import NotReached
signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as in a program whose output is cut off
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
listening.listen()
connection = connect(sys.argv[1])
listening.accept()[0].close()
try:
    connection.call("say", (), 30.0)
except NotReached as error:
    print(error)
"""


def test_the_end_of_the_process_does_not_end_a_program_that_takes_the_signal_of_a_broken_pipe(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDED, str(tmp_path / "socket")], capture_output=True, text=True, timeout=WITHIN_S
    )
    assert (done.returncode, done.stdout) == (0, "its process has ended\n"), done.stderr


def test_the_handler_of_a_signal_may_call_whatever_it_interrupts(tmp_path: Path) -> None:
    idle, found = IdleConnections(), []

    class Interrupted(str):
        """While it is looked up, a handler looks up the same."""

        def __hash__(self) -> int:
            found.append(idle.take("fx"))
            return hash("fx")

    with listens(str(tmp_path / "socket")):
        connection = opened(str(tmp_path / "socket"))
        for work in (lambda: idle.give(Interrupted("fx"), connection), lambda: idle.take(Interrupted("fx"))):
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            thread.join(WITHIN_S)
            assert not thread.is_alive()
        assert found[-1] is connection
        connection.close()


async def test_it_talks_to_processes_of_its_user_and_of_that_path_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path) as (_, path):
        (tmp_path / "linked").symlink_to(path)
        assert connect(str(tmp_path / "linked")) is None
        monkeypatch.setattr(os, "geteuid", lambda: 4321)
        assert connect(path) is None


async def test_each_thread_has_the_answers_to_its_own_calls(tmp_path: Path) -> None:
    idle = IdleConnections()
    async with served(tmp_path) as (_, path):

        def call(number: int) -> object:
            connection = idle.take("fx") or opened(path)
            found = outcome(connection.call("say", (number,), WITHIN_S))
            idle.give("fx", connection)
            return found

        with ThreadPoolExecutor(8) as threads:
            loop = asyncio.get_running_loop()
            found = await asyncio.gather(*[loop.run_in_executor(threads, call, number) for number in range(400)])
        assert found == [("say", (number,)) for number in range(400)]
        while (left := idle.take("fx")) is not None:
            left.close()
