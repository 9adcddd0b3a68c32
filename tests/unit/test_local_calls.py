"""Calls between actors over a socket of this machine: answers, errors, ends, and who is let in."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import socket
import stat
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from actors.runtime import local_calls
from actors.runtime.local_calls import Connection, NotReached, connect, serve, socket_path
from actors.runtime.ports import outcome
from tests.unit.called import ERRORS, Actor, Spoilt, listens, served


@asynccontextmanager
async def connected(directory: Path) -> AsyncIterator[tuple[Actor, Connection]]:
    async with served(directory) as (actor, path):
        connection = await connect(path)
        assert connection is not None
        try:
            yield actor, connection
        finally:
            connection.close()


async def called(connection: Connection, method: str, args: tuple[object, ...]) -> object:
    return outcome(await connection.call(method, args))


async def test_each_call_has_its_own_answer_whichever_comes_first(tmp_path: Path) -> None:
    async with connected(tmp_path) as (actor, connection):
        waits = [asyncio.ensure_future(called(connection, "wait", (number,))) for number in range(3)]
        await asyncio.sleep(0)
        large = "x" * 3_000_000
        assert await called(connection, "say", (large, 1)) == ("say", (large, 1))
        actor.may_end.set()
        assert await asyncio.gather(*waits) == [("wait", (number,)) for number in range(3)]
        assert actor.began == [(0,), (1,), (2,), (large, 1)], "they begin in the order in which they were made"


@pytest.mark.parametrize(("method", "kind", "text"), ERRORS)
async def test_an_error_is_the_method_s_own(tmp_path: Path, method: str, kind: type[Exception], text: str) -> None:
    async with connected(tmp_path) as (_, connection):
        with pytest.raises(kind) as found:
            await called(connection, method, ())
        assert str(found.value).startswith(text)
        assert await called(connection, "say", ()) == ("say", ()), "and it goes on"


async def test_what_cannot_be_read_is_an_error_of_that_call_alone(tmp_path: Path) -> None:
    async with connected(tmp_path) as (actor, connection):
        with pytest.raises(RuntimeError, match="the call cannot be read"):
            await called(connection, "say", (Spoilt(),))
        assert actor.began == []
        assert await called(connection, "say", ()) == ("say", ())


async def test_an_answer_of_a_class_that_is_not_known_here_is_none(tmp_path: Path) -> None:
    async with connected(tmp_path) as (_, connection):
        with pytest.raises(NotReached, match="the answer cannot be read: invalid literal"):
            await called(connection, "spoilt", ())
        assert await called(connection, "say", ()) == ("say", ())


async def test_what_is_too_large_is_an_error_of_that_call_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_calls, "LARGEST_MESSAGE", 1_000_000)
    async with connected(tmp_path) as (actor, connection):
        other = asyncio.ensure_future(called(connection, "wait", (1,)))
        await called(connection, "say", ())
        with pytest.raises(RuntimeError, match=r"say was not sent: 3,000,0\d\d bytes are too many"):
            await called(connection, "say", ("x" * 3_000_000,))
        with pytest.raises(RuntimeError, match="str: its answer cannot be sent"):
            await called(connection, "large", ())
        actor.may_end.set()
        assert await other == ("wait", (1,))


async def test_answers_to_a_caller_that_has_ended_are_dropped_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(tmp_path) as (actor, connection):
        waits = [asyncio.ensure_future(called(connection, "wait", (number,))) for number in range(50)]
        while len(actor.began) < 50:
            await asyncio.sleep(0)
        transport = connection._transport  # noqa: SLF001 - its close would reach the actor first
        assert transport is not None
        transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        actor.may_end.set()
        for wait in waits:
            with pytest.raises(NotReached):
                await wait
        await asyncio.sleep(0)
        assert caplog.messages == []


async def test_a_call_that_is_given_up_goes_on(tmp_path: Path) -> None:
    async with connected(tmp_path) as (actor, connection):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(called(connection, "wait", ()), 0.05)
        actor.may_end.set()
        await asyncio.wait_for(actor.ended.wait(), 10)
        assert await called(connection, "say", ()) == ("say", ()), "its late answer is nobody's"


async def test_the_end_of_the_process_ends_every_call(tmp_path: Path) -> None:
    """The kernel closes what a killed process had open."""
    path = str(tmp_path / "socket")
    with listens(path) as listening:
        connection = await connect(path)
        assert connection is not None
        waits = [asyncio.ensure_future(called(connection, "wait", ())) for _ in range(2)]
        there, _ = listening.accept()
        there.close()
        for wait in waits:
            with pytest.raises(NotReached, match="its process has ended"):
                await wait
    assert not connection.is_open
    with pytest.raises(NotReached):
        await called(connection, "say", ())
    assert await connect(path) is None, "nobody listens there"


async def test_whoever_serves_last_is_reached(tmp_path: Path) -> None:
    async with connected(tmp_path) as (former, old), served(tmp_path) as (latter, path):
        new = await connect(path)
        assert new is not None
        await called(new, "say", ("new",))
        await called(old, "say", ("old",))
        assert (former.began, latter.began) == ([("old",)], [("new",)])
        new.close()


async def test_a_process_that_reads_nothing_is_sent_no_more_than_so_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_calls, "UNSENT_AT_MOST", 1_000_000)
    path = str(tmp_path / "socket")
    with listens(path):
        connection = await connect(path)
        assert connection is not None
        first = asyncio.ensure_future(called(connection, "say", ("x" * 3_000_000,)))
        await asyncio.sleep(0)
        with pytest.raises(NotReached, match="does not read"):
            await called(connection, "say", ())
        connection.close()
        with pytest.raises(NotReached):
            await first


async def test_more_calls_than_it_takes_at_once_are_all_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_calls, "MOST_AT_ONCE", 4)
    async with connected(tmp_path) as (actor, connection):
        waits = [asyncio.ensure_future(called(connection, "wait", ("x" * 500_000,))) for _ in range(20)]
        while len(actor.began) < 4:
            await asyncio.sleep(0)
        assert len(actor.began) < 20
        actor.may_end.set()
        assert len(await asyncio.gather(*waits)) == 20


async def test_only_processes_of_its_user_talk_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(tmp_path) as (actor, path):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        monkeypatch.setattr(os, "geteuid", lambda: 4321)
        assert await connect(path) is None, "the caller does not talk to another user's process"
        reader, writer = await asyncio.open_unix_connection(path)
        body = pickle.dumps(("say", ()))
        writer.write(struct.pack("!QQ", len(body), 0) + body)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b"", "nor does the actor"
        writer.close()
        assert actor.began == []


async def test_a_socket_is_reached_by_its_own_path_alone(tmp_path: Path) -> None:
    """Whoever may write into the folder could lead the calls of one actor to another."""
    async with served(tmp_path) as (_, path):
        (tmp_path / "linked").symlink_to(path)
        assert await connect(str(tmp_path / "linked")) is None
        os.rename(path, tmp_path / "renamed")
        assert await connect(str(tmp_path / "renamed")) is None


async def test_no_link_at_its_path_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, path = tmp_path / "other", tmp_path / "socket"
    other.touch(0o644)
    loops: Any = type(asyncio.get_running_loop())
    opened = loops.create_unix_server

    async def replaced(*args: object, **named: object) -> asyncio.Server:
        server: asyncio.Server = await opened(*args, **named)
        path.unlink()
        path.symlink_to(other)
        return server

    path.symlink_to(other)
    monkeypatch.setattr(loops, "create_unix_server", replaced)
    server = await serve(str(path), Actor().ask)
    assert server is not None
    server.close()
    assert stat.S_IMODE(other.stat().st_mode) == 0o644


@pytest.mark.parametrize("sent", [b"\xff" * 16, b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"])
async def test_who_sends_something_else_is_not_listened_to(tmp_path: Path, sent: bytes) -> None:
    async with connected(tmp_path) as (actor, connection):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "socket"))
        writer.write(sent)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        assert await called(connection, "say", ()) == ("say", ())
        assert len(actor.began) == 1


async def test_without_a_place_or_a_word_of_the_kernel_there_is_no_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = Actor()
    assert socket_path("/x" * 60, "fx") is None
    assert await serve(str(tmp_path / "none" / "socket"), actor.ask) is None
    monkeypatch.delattr(socket, "SO_PEERCRED")
    assert await serve(str(tmp_path / "socket"), actor.ask) is None


def test_every_name_has_a_socket_of_its_own() -> None:
    names = [("1", "a", "fx/EUR"), ("1", "a", "fx"), ("1", "a/fx", "EUR"), ("1", "b", "fx/EUR"), ("2", "a", "fx/EUR")]
    assert len({socket_path("/run", *of) for of in names}) == len(names)
