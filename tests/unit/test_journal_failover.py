"""The journal on a PostgreSQL primary with a streaming standby, when the primary is lost, comes back, or both write.

Needs psycopg and the programs of PostgreSQL (of the system, or of the package pgserver)."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from actors.book.trading_permission import Obstacle
from actors.journal.actor import Audit
from actors.journal.evidence import EvidenceSettings
from actors.journal.store import Journal
from actors.journal.types import (
    Append,
    Appended,
    JournalCorrupt,
    JournalInUse,
    JournalUnavailable,
    Verification,
)
from actors.names import AUDIT
from tests.unit.fakes import QUICK, House, in_this_thread, passes, quantities
from tests.unit.instrument_cases import last
from tests.unit.journal_cases import events, ids, ids_of_names
from tests.unit.virtual_time import virtual_time

pytest.importorskip("psycopg", reason="the extra 'postgres' is not installed")
from tests.unit.postgresql_servers import Server, Servers, make_template, until

OPEN = ("1", "2")
IMPATIENT_S = 1.0
NUMBERS = count(1)


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    # Not in pytest's own folder, which the servers' own user may not enter.
    with tempfile.TemporaryDirectory(prefix="postgresql-") as directory:
        yield make_template(Path(directory))


@pytest.fixture
def make_servers(template: Path) -> Iterator[Callable[..., Servers]]:
    made: list[Servers] = []
    with tempfile.TemporaryDirectory(prefix="postgresql-") as directory:
        os.chmod(directory, 0o711)  # noqa: S103 - the servers' own user has to get in, and can list nothing

        def make(*, synchronous: bool) -> Servers:
            made.append(Servers(template, Path(directory), synchronous=synchronous))
            return made[-1]

        yield make
        for servers in made:
            servers.end()


@pytest.fixture(scope="module")
def lasting(template: Path) -> Iterator[Servers]:
    """Servers that no test kills."""
    with tempfile.TemporaryDirectory(prefix="postgresql-") as directory:
        os.chmod(directory, 0o711)  # noqa: S103 - as above
        servers = Servers(template, Path(directory), synchronous=True)
        servers.primary.configure(wal_sender_timeout="0")
        yield servers
        servers.end()


@pytest.fixture
def url(lasting: Servers) -> str:
    name = f"journal_{next(NUMBERS)}"
    lasting.primary.ask(f"CREATE DATABASE {name}")
    return lasting.url_of(name)


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    return tmp_path / "var" / "journal"


def a_writer(url: str, beside: Path | None, answer_within_s: float = 10.0) -> Journal:
    return Journal.open(url, exclusive=True, beside=beside, answer_within_s=answer_within_s)


def waits_for_standby(server: Server) -> int | None:
    """The server's process whose commit waits."""
    found = server.ask(
        "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name ~ '^journal'"
    )
    return found if isinstance(found, int) else None


@pytest.mark.parametrize("arrived", [True, False])
def test_a_failover_loses_nothing_and_writes_a_commit_whose_answer_was_lost_once(
    make_servers: Callable[..., Servers], beside: Path, *, arrived: bool
) -> None:
    """PEERS 12. Whether the standby had the last commit is not known: the writer offers it again and finds out."""
    servers = make_servers(synchronous=True)
    with closing(a_writer(servers.url, beside)) as journal, ThreadPoolExecutor() as aside:
        assert journal.append([Append("fx/A", 0, events(*OPEN))]) == [Appended(2, 2)]
        servers.standby.freeze()
        unanswered = aside.submit(journal.append, [Append("fx/A", 2, events("3"))])
        until("the commit waits", lambda: waits_for_standby(servers.primary) is not None)
        if arrived:
            waiting = waits_for_standby(servers.primary)
            assert waiting is not None
            os.kill(waiting, signal.SIGSTOP)
            servers.standby.thaw()
            until("it has it", lambda: servers.primary.ask(
                "SELECT pg_current_wal_flush_lsn() = flush_lsn FROM pg_stat_replication") is True)  # fmt: skip
        servers.primary.kill()
        servers.standby.thaw()
        with pytest.raises(JournalUnavailable):
            unanswered.result(timeout=20)
        with pytest.raises(JournalUnavailable, match=r"(?s)refused.*the server is a standby.*Promote it"):
            journal.append([Append("fx/A", 2, events("3"))])
        servers.standby.promote()
        assert journal.append([Append("fx/A", 2, events("3"))]) == [Appended(3, 3)]
        assert journal.append([Append("fx/A", 3, events("4"))]) == [Appended(4, 4)]
        assert ids(journal.records()) == ids_of_names(*OPEN, "3", "4")
        assert journal.verify() == Verification(True, 4)
        with pytest.raises(
            JournalInUse, match=r"another process is its writer already \(journal: .*process \d+, at 127"
        ):
            a_writer(servers.url, beside)


@virtual_time
async def test_during_a_failover_the_books_wait_and_then_go_on(
    make_servers: Callable[..., Servers], tmp_path: Path
) -> None:
    """Law 2. DEGRADED, with the reason; what accounts and instruments have to say waits for the new primary."""
    servers = make_servers(synchronous=True)
    house = _OnServers(tmp_path, interval_s=10.0, policy=replace(QUICK, unverified=timedelta(seconds=20)))
    house.url = servers.url
    await house.open()
    try:
        house.broker.hold(5)
        await house.start()
        await passes(1)
        assert quantities(await last(house)) == {"net": "5"}
        assert await unverified(house) == []
        servers.primary.kill()
        house.broker.hold(9)
        await passes(40)
        report = await last(house)
        assert (report.status, quantities(report)) == ("DEGRADED", {"net": "5"})
        assert "refused" in (report.error or "")
        (why,) = await unverified(house)
        assert "more than unverified_s (20): DEGRADED: the journal is not available" in why
        health = await house.audit.health()
        assert (health["writable"], "Promote it" in str(health["error"])) == (False, True)
        servers.standby.promote()
        await passes(40)
        report = await last(house)
        assert (report.status, quantities(report), report.error) == ("SUCCESS", {"net": "9"}, None)
        assert await unverified(house) == []
        assert (await house.audit.verify()).ok
        ids = [record.event.event_id for record in await house.audit.records(limit=10_000)]
        assert len(ids) == len(set(ids))
        assert (await house.audit.health())["last_outage"] is not None
    finally:
        await house.close()


async def unverified(house: House) -> list[str]:
    """Why trading is not allowed, as far as that is for want of proof."""
    permission = await house.instrument().trading_allowed()
    return [one.text for one in permission.reasons if one.obstacle is Obstacle.UNVERIFIED]


class _OnServers(House):
    """A house whose journal is on a server."""

    async def open_audit(self) -> None:
        beside = str(self.directory / "journal")
        evidence = EvidenceSettings(f"{beside}.key", f"{beside}.pub", beside=beside)
        self.audit = Audit(
            self.url, None, evidence, run_blocking=in_this_thread, monotonic=asyncio.get_running_loop().time
        )
        await self.audit.open()
        self.runtime.register(AUDIT, self.audit)


def test_a_standby_that_lacks_records_is_named_and_never_continued(
    make_servers: Callable[..., Servers], beside: Path
) -> None:
    """Without synchronous replication: neither the writer nor its successor makes a second end of the chain."""
    servers = make_servers(synchronous=False)
    journal = a_writer(servers.url, beside)
    assert "waits for no standby (synchronous_standby_names is empty)" in journal.cautions[0]
    journal.append([Append("fx/A", 0, events(*OPEN))])
    until("the standby has it", lambda: servers.primary.ask(
        "SELECT pg_current_wal_flush_lsn() = replay_lsn FROM pg_stat_replication") is True)  # fmt: skip
    servers.standby.kill()
    journal.append([Append("fx/A", 2, events("3", "4"))])
    servers.primary.kill()
    servers.standby.start()
    servers.standby.promote()
    lost = r"it ends at record 2, and record 4 was durable: what came between is lost.*remove .*journal\.mark"
    with pytest.raises(JournalCorrupt, match=lost):
        journal.append([Append("fx/A", 4, events("5"))])
    journal.close()
    with pytest.raises(JournalCorrupt, match=lost):
        a_writer(servers.url, beside)
    with closing(Journal.open(servers.standby.url, read_only=True, beside=beside)) as reader:
        assert not reader.verify().ok
        assert "record 4 was durable" in str(reader.doubt())
    # The former primary comes back and has all of it.
    servers.primary.start()
    with closing(a_writer(servers.url, beside)) as journal:
        assert journal.append([Append("fx/A", 4, events("5"))]) == [Appended(5, 5)]
        assert journal.verify() == Verification(True, 5)
    # Whoever accepts the loss says so.
    servers.primary.kill()
    Path(f"{beside}.mark").unlink()
    with closing(a_writer(servers.url, beside)) as journal:
        assert journal.append([Append("fx/A", 2, events("other"))]) == [Appended(3, 3)]


def test_a_former_primary_that_comes_back_is_not_written_to(make_servers: Callable[..., Servers], beside: Path) -> None:
    """Two primaries: whoever begins takes the one of the newest timeline, and the other never, not even alone."""
    servers = make_servers(synchronous=True)
    first = a_writer(servers.url, beside)
    first.append([Append("fx/A", 0, events(*OPEN))])
    first.close()
    servers.primary.kill()
    servers.standby.promote()
    # No record is written that would distinguish the two.
    a_writer(servers.url, beside).close()
    servers.primary.start()
    servers.primary.configure(synchronous_standby_names="")
    with closing(a_writer(servers.url, None)) as unmarked:
        assert unmarked.append([Append("fx/A", 2, events("3"))]) == [Appended(3, 3)]
        with closing(Journal.open(servers.url, read_only=True)) as reader:
            assert ids(reader.records()) == ids_of_names(*OPEN, "3")
        with pytest.raises(JournalInUse):
            a_writer(servers.url, None)
    servers.standby.kill()
    former = "it is a former primary that came back: it is on timeline 1, and the journal went on on timeline 2"
    with pytest.raises(JournalUnavailable, match=former):
        a_writer(servers.url, beside)
    with pytest.raises(JournalUnavailable, match=former):
        Journal.open(servers.url, read_only=True, beside=beside)
    servers.standby.start()
    with closing(a_writer(servers.url, beside)) as journal:
        assert journal.append([Append("fx/A", 3, events("4"))]) == [Appended(4, 4)]


def test_a_commit_that_the_server_did_not_wait_with_is_no_success(lasting: Servers, url: str, beside: Path) -> None:
    """PostgreSQL answers a commit whose wait was cancelled with success and a warning; it is on one disk."""
    with closing(a_writer(url, beside)) as journal, ThreadPoolExecutor() as aside:
        lasting.standby.freeze()
        unanswered = aside.submit(journal.append, [Append("fx/A", 0, events("1"))])
        until("the commit waits", lambda: waits_for_standby(lasting.primary) is not None)
        assert lasting.primary.ask(f"SELECT pg_cancel_backend({waits_for_standby(lasting.primary)})") is True
        with pytest.raises(JournalUnavailable, match="not known to be on the standby"):
            unanswered.result(timeout=20)
        # It is in the primary's tables now, and nobody may believe it before the standby has it.
        again = aside.submit(journal.append, [Append("fx/A", 0, events("1"))])
        until("it waits again", lambda: waits_for_standby(lasting.primary) is not None)
        assert not again.done()
        lasting.standby.thaw()
        assert again.result(timeout=20) == [Appended(1, 1)]
        assert journal.verify() == Verification(True, 1)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("RUN_SLOW"), reason="set RUN_SLOW to run it: it waits for time-outs")
def test_a_standby_that_hangs_makes_a_commit_fail_in_time_and_not_keep_its_own_writer_out(
    lasting: Servers, url: str, beside: Path
) -> None:
    """The server does not see that the writer has given the commit up, and keeps its lock."""
    with closing(a_writer(url, beside, IMPATIENT_S)) as journal:
        lasting.standby.freeze()
        for _ in range(2):
            with pytest.raises(JournalUnavailable, match="no answer within 1 s"):
                journal.append([Append("fx/A", 0, events("1"))])
        with pytest.raises(JournalInUse, match="whose last commit waits for a standby"):
            a_writer(url, beside)
        lasting.standby.thaw()
        assert journal.append([Append("fx/A", 0, events("1"))]) == [Appended(1, 1)]


def test_a_commit_waits_for_the_disk_of_the_standby_whatever_the_server_says(lasting: Servers, url: str) -> None:
    lasting.primary.configure(synchronous_commit="local")
    try:
        with closing(a_writer(url, None)) as journal, ThreadPoolExecutor() as aside:
            lasting.standby.freeze()
            writing = aside.submit(journal.append, [Append("fx/A", 0, events("1"))])
            until("the commit waits", lambda: waits_for_standby(lasting.primary) is not None)
            lasting.standby.thaw()
            assert writing.result(timeout=20) == [Appended(1, 1)]
    finally:
        lasting.primary.configure(synchronous_commit="on")
