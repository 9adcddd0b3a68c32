"""The alerts actor against a real web server and a real mail server on loopback: sent at once, over a restart, over a
receiver that is away, each once."""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import queue
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from loguru import logger

from actors.alerts.actor import Alerts, AlertsSettings
from actors.alerts.delivery import deliver
from actors.alerts.router import Message, MessageKind, Route, RouterSettings
from actors.events import Event, EventType, Severity, event_id, to_iso
from actors.journal import client
from actors.journal.actor import Audit
from actors.journal.types import Appended
from actors.names import ALERTS, AUDIT
from actors.runtime.ports import ActorUnavailable, LocalRuntime
from brokers.spec import SecretRef, SecretSource
from supervisor.config.errors import ConfigurationError
from supervisor.config.loader import load
from supervisor.supervision.specs import alerts_settings, children
from supervisor.tree.model import Kind
from tests.brokers.listeners import self_signed, taking
from tests.unit.fakes import in_this_thread
from tests.unit.receivers import mail_receiver, web_receiver

T = TypeVar("T")
MESSAGE = Message("id", "desk", MessageKind.ALERT, Severity.CRITICAL, "CRITICAL fx/EUR_USD", "book 5, broker nothing")


class Post:
    """A journal and the alerts actor over it, in real time."""

    def __init__(self, directory: Path, urls: dict[str, SecretRef | str]) -> None:
        self.runtime = LocalRuntime(lambda: datetime.now(UTC), asyncio.get_running_loop().time, lambda: 0.5)
        self.audit = Audit(f"sqlite:///{directory}/journal.db", run_blocking=in_this_thread)
        self.runtime.register(AUDIT, self.audit)
        routes = tuple(map(Route, urls))
        self.settings = AlertsSettings(RouterSettings(routes), tuple(urls.items()))
        self.made = 0

    async def alerts(self) -> Alerts:
        actor = Alerts(self.settings, self.runtime)
        self.runtime.register(ALERTS, actor)
        await actor.start()
        return actor

    async def break_(self, own_id: str, severity: Severity = Severity.CRITICAL, *, resolved: bool = False) -> Appended:
        """A break of an instrument, or its end, in the journal."""
        stream, now = "fx/EUR_USD", datetime.now(UTC)
        kind = EventType.DISCREPANCY_RESOLVED if resolved else EventType.RECONCILIATION_DISCREPANCY
        payload: dict[str, Any] = {
            "id": own_id, "type": "NAKED_POSITION", "key": "long", "book_value": "5", "broker_value": None,
            "cause": None, "opened_at": to_iso(now), "resolved": resolved, "correction": None,
        }  # fmt: skip
        version = await client.version(self.runtime, stream)
        event = Event(event_id(stream, str(version + 1), kind), kind, severity, now, payload)
        return await client.append(self.runtime, stream, version, (event,))

    async def journaled(self, *kinds: EventType) -> list[dict[str, Any]]:
        found = await self.audit.records(stream=ALERTS, types=kinds)
        return [dict(record.event.payload) for record in found]

    async def until(self, holds: Callable[[], Any]) -> None:
        async with asyncio.timeout(20):
            while not await holds():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def a_post(directory: Path, **urls: SecretRef | str) -> AsyncIterator[Post]:
    post = Post(directory, urls)
    await post.audit.open()
    try:
        yield post
        assert (await post.audit.verify()).ok
    finally:
        for name in (ALERTS, AUDIT):
            await post.runtime.kill(name)
        await post.audit.close()


async def next_of(arrived: queue.Queue[T]) -> T:
    return await asyncio.to_thread(arrived.get, timeout=20)


async def test_a_critical_finding_is_at_the_web_server_and_in_the_mailbox_and_journaled_as_sent(tmp_path: Path) -> None:
    async with mail_receiver() as (mail_url, mails):
        with web_receiver() as web:
            async with a_post(tmp_path, desk=web.url, night=mail_url) as post:
                actor = await post.alerts()
                await post.break_("b1")
                posted, mailed = await next_of(web.got), await next_of(mails)
                assert posted["title"] == "CRITICAL fx/EUR_USD NAKED_POSITION"
                assert posted["type"] == "failure"
                assert "long: book 5, broker nothing" in posted["message"]
                assert mailed.rcpt_tos == ["ann@desk.test"]
                assert "NAKED_POSITION" in str(mailed.content)

                async def both() -> bool:
                    return len(await post.journaled(EventType.ALERT_DELIVERED)) == 2

                await post.until(both)
                await post.break_("b1", resolved=True)
                assert (await next_of(web.got))["type"] == "success"

                async def counted() -> bool:
                    return (await actor.health()).delivered["desk"] == 2

                await post.until(counted)
                assert (await actor.health()).failing == {}


async def test_a_mail_shows_the_text_as_it_stands_line_by_line() -> None:
    """A mail program takes what looks like a tag for one, and an end of line for a space, where the mail says HTML."""
    text = "cause <unknown>, book 5 & broker <3\nsince 2025-03-01T12:00:00Z\npython -m supervisor breaks show b1"
    async with mail_receiver() as (url, mails):
        assert await asyncio.to_thread(deliver, url, replace(MESSAGE, body=text)) is None
        content = (await next_of(mails)).content
    assert isinstance(content, bytes)
    mailed = email.message_from_bytes(content, policy=email.policy.default)
    shown = mailed.get_body(("html", "plain"))
    assert shown is not None
    assert shown.get_content_type() == "text/plain"
    assert shown.get_content().splitlines()[:3] == text.splitlines()


async def test_what_a_receiver_did_not_take_comes_after_a_restart_once_and_its_failure_is_journaled(
    tmp_path: Path,
) -> None:
    with web_receiver() as web:
        web.refuse = True
        async with a_post(tmp_path, desk=web.url) as post:
            await post.alerts()
            await post.break_("b1")
            await next_of(web.tried)

            async def failed_once() -> bool:
                return bool(await post.journaled(EventType.ALERT_FAILED))

            await post.until(failed_once)
            (failed,) = await post.journaled(EventType.ALERT_FAILED)
            assert failed["route"] == "desk"
            assert "127.0.0.1" not in str(failed)

            await post.runtime.kill(ALERTS)
            web.refuse = False
            await post.break_("b2", Severity.WARNING)
            await post.alerts()
            got = [await next_of(web.got), await next_of(web.got)]
            assert {row["type"] for row in got} == {"failure", "warning"}

            async def both() -> bool:
                return len(await post.journaled(EventType.ALERT_DELIVERED)) == 2

            await post.until(both)
            await post.runtime.kill(ALERTS)
            await post.alerts()
            await post.break_("b3")
            assert "CRITICAL" in (await next_of(web.got))["title"]
            assert web.got.empty()


async def test_one_route_that_is_away_keeps_no_other_waiting(tmp_path: Path) -> None:
    with web_receiver() as away, web_receiver() as here:
        away.refuse = True
        async with a_post(tmp_path, gone=away.url, desk=here.url) as post:
            actor = await post.alerts()
            for number in range(3):
                await post.break_(f"b{number}")
                await next_of(here.got)
            assert set((await actor.health()).failing) == {"gone"}


async def test_a_restart_begins_with_the_checkpoint_and_not_with_the_whole_journal(tmp_path: Path) -> None:
    with web_receiver() as web:
        async with a_post(tmp_path, desk=web.url) as post:
            actor = await post.alerts()
            await post.break_("b1")
            await next_of(web.got)

            async def delivered() -> bool:
                return bool(await post.journaled(EventType.ALERT_DELIVERED))

            await post.until(delivered)
            await post.until(lambda: _caught(actor, 2))
            await actor.close()
            with pytest.raises(ActorUnavailable, match="closed by a supervisor that has died"):
                await actor.health()
            (checkpoint,) = await post.journaled(EventType.CHECKPOINT)
            assert [one["id"] for one in checkpoint["router"]["subjects"]] == ["b1"]
            await post.runtime.kill(ALERTS)
            await post.alerts()
            await post.break_("b1", resolved=True)
            assert (await next_of(web.got))["title"].startswith("resolved: ")


async def _caught(actor: Alerts, seq: int) -> bool:
    return (await actor.health()).cursor >= seq


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("json://127.0.0.1:1/", "Connection error"),
        ("nonsense://x", "apprise does not know such a URL"),
        (SecretRef(SecretSource.ENVIRONMENT, "alerts", "url", "NO_SUCH_VARIABLE_HERE"), "NO_SUCH_VARIABLE_HERE is not"),
    ],
)
def test_why_something_was_not_delivered_is_said_without_the_url(url: SecretRef | str, says: str) -> None:
    reason = deliver(url, MESSAGE)
    assert reason is not None
    assert says in reason
    assert "://" not in reason


@pytest.mark.parametrize("query", ["", "?verify=no"])
def test_a_server_that_nobody_vouches_for_gets_no_alert_whatever_the_url_says(query: str, tmp_path: Path) -> None:
    context, heard = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), list[bytes]()
    context.load_cert_chain(self_signed(tmp_path / "server.pem"))

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            talk = context.wrap_socket(connection, server_side=True)
            heard.append(talk.recv(10_000))
            talk.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with taking(serve) as port:
        assert deliver(f"jsons://me:s3cret@localhost:{port}/{query}", MESSAGE) is not None
    assert heard == []


# Configuration

ACCOUNTS = "accounts: [{name: fx, broker: oanda, simulator: true, instruments: [EUR_USD]}]\n"


def written(directory: Path, alerts: str) -> Path:
    path = directory / "accounts.yaml"
    path.write_text(f"journal: {{url: 'sqlite:///{directory}/journal.db'}}\n{ACCOUNTS}alerts:\n{alerts}")
    return path


def test_routes_are_read_and_their_urls_are_not_shown(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "  heartbeat_s: 3600\n  quiet: {begin: '22:00', end: '07:00', timezone: Asia/Kolkata}\n  routes:\n"
        "    - {name: desk, url: '${DESK_URL}', severity: CRITICAL, types: [NAKED_POSITION],"
        " accounts: [fx], after_s: 5}\n"
        "    - {name: here, url: 'json://127.0.0.1:9/x'}\n",
    )
    configuration = load(path, {"DESK_URL": "slack://secret-token"})
    settings = alerts_settings(configuration)
    desk, here = settings.router.routes
    assert desk == Route("desk", Severity.CRITICAL, frozenset({"NAKED_POSITION"}), frozenset({"fx"}), timedelta(0, 5))
    assert here == Route("here")
    assert settings.router.brokers == {"fx": "oanda"}
    assert settings.router.quiet is not None
    assert settings.router.quiet.zone == "Asia/Kolkata"
    shown = f"{settings!r} {configuration!r} {configuration.model_dump_json()}"
    assert "secret-token" not in shown
    assert [spec.key.name for spec in children(configuration) if spec.key.kind is Kind.ALERTS] == ["alerts"]
    without = replace(settings, urls=())
    assert without.fingerprint == settings.fingerprint


@pytest.mark.parametrize(
    ("alerts", "says"),
    [
        ("  routes: [{name: desk, url: 'slack://a/b/c'}]", "environment"),
        ("  routes: [{name: desk, url: 'json://ann:pw@127.0.0.1:1/'}]", "environment"),
        ("  routes: [{name: desk, url: '${NOT_SET_ANYWHERE}'}]", "NOT_SET_ANYWHERE"),
        ("  routes: [{name: a, url: 'json://localhost/'}, {name: a, url: 'json://localhost/'}]", "a twice"),
        ("  routes: [{name: a, url: 'json://localhost/', accounts: [nobody]}]", "nobody, which is not an account"),
        ("  routes: [{name: a, url: 'json://localhost/', types: [BOREDOM]}]", "BOREDOM"),
        ("  routes: [{name: a, url: 'json://localhost/', severity: LOUD}]", "LOUD"),
        ("  quiet: {begin: '25:00', end: '07:00'}", "HH:MM"),
        ("  quiet: {begin: '22:00', end: '07:00', timezone: Mars/Base}", "time zone"),
        ("  digest_above: 0", "1 to 1000"),
        ("  routs: []", "routs"),
    ],
)
def test_a_mistake_in_alerts_is_named_with_what_is_expected(tmp_path: Path, alerts: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(written(tmp_path, alerts + "\n"), {})
    assert says in str(raised.value)
    assert "slack://a" not in str(raised.value)
    assert "pw@" not in str(raised.value)


async def test_a_record_that_cannot_be_read_keeps_no_other_from_being_reported(tmp_path: Path) -> None:
    logged: list[str] = []
    handler = logger.add(lambda line: logged.append(str(line)), format="{message}")
    with web_receiver() as web:
        async with a_post(tmp_path, desk=web.url) as post:
            foreign = Event("f", EventType.RECONCILIATION_DISCREPANCY, Severity.CRITICAL, datetime.now(UTC), {})
            await post.audit.append("fx/EUR_USD", 0, (foreign,))
            await post.alerts()
            await post.break_("b1")
            assert (await next_of(web.got))["title"] == "CRITICAL fx/EUR_USD NAKED_POSITION"
    logger.remove(handler)
    assert any("could not read record 1, a RECONCILIATION_DISCREPANCY" in line for line in logged)


async def test_a_checkpoint_of_the_alerts_that_cannot_be_read_is_an_error_with_its_number(tmp_path: Path) -> None:
    with web_receiver() as web:
        async with a_post(tmp_path, desk=web.url) as post:
            foreign = Event("c", EventType.CHECKPOINT, Severity.INFO, datetime.now(UTC), {"cursor": "0"})
            await post.audit.append(ALERTS, 0, (foreign,))
            actor = await post.alerts()

            async def said() -> bool:
                return "record 1, a CHECKPOINT (version 1 of alerts): it has no 'router'" in str(
                    (await actor.health()).error
                )

            await post.until(said)
