"""A contract that is gone because it expired, at Kite: what its exchange's table of instruments is evidence of, and
what it is none of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from actors.book import payloads
from actors.book.discrepancies import Cause, DiscrepancyType
from actors.events import Severity
from brokers.clocks import broker_time
from brokers.kit.foreign_row import BadAnswer
from brokers.kite.contract_tables import AGAIN_AFTER, ContractTables, Table
from brokers.kite.decode import contracts
from brokers.model import ContractFacts
from brokers.simulators.base import Fault
from brokers.simulators.http import RawReply
from brokers.simulators.kite import KiteSimulator
from brokers.simulators.kite_http import table_csv
from brokers.simulators.kite_ledger import Contract
from tests.brokers.following import PATIENCE_S
from tests.brokers.kite_contracts import FUTURE, LAST_DAY, SHARE, an_account, at, it_is, opened, until_the_table_is_read
from tests.brokers.test_end_to_end import SELL
from tests.unit.fakes import quantities

D = Decimal
OPTION = "NFO:RELIANCE25NOV1500PE"
HEAD = "instrument_token, exchange_token, tradingsymbol, name, last_price, expiry, strike, tick_size, lot_size, "
HEAD += "instrument_type, segment, exchange\n"


# -- the table -----------------------------------------------------------------------------------------------------


def test_a_table_says_the_last_day_of_a_contract_and_when_its_last_session_ends() -> None:
    table = table_csv(
        {
            SHARE: None,
            FUTURE: Contract("2025-11-25", name="NIFTY"),
            OPTION: Contract("2025-11-25", "PE", D(1500), 500, "RELIANCE"),
        }
    ).encode()
    found = contracts(table, "NFO", {SHARE, FUTURE, OPTION, "NFO:NIFTY25DECFUT"})
    future = ContractFacts(None, "FUT", LAST_DAY, underlying="NIFTY", currency="INR", ends_at=broker_time(at(15, 30)))
    option = ContractFacts(
        None, "OPT", LAST_DAY, "P", D(1500), "RELIANCE", currency="INR", ends_at=broker_time(at(15, 30))
    )
    assert (found.rows, found.earliest) == ({FUTURE: future, OPTION: option}, LAST_DAY)


def test_the_example_of_the_documentation_is_read() -> None:
    """Its head has blanks, and one of its rows lacks a column."""
    rows = "5720322,22345,NIFTY15DECFUT,,78.0,2015-12-31,,0.05,75,FUT,NFO-FUT,NFO\n"
    rows += "645639,SILVER15DECFUT,,7800.0,2015-12-31,,1,1,FUT,MCX,MCX\n"
    rows += "5720578,22346,NIFTY159500CE,,23.0,2015-12-31,9500,0.05,75,CE,NFO-OPT,NFO"
    found = contracts((HEAD + rows).encode(), "NFO", {"NFO:NIFTY159500CE"})
    assert found.rows["NFO:NIFTY159500CE"].strike == D(9500)


@pytest.mark.parametrize(
    "row",
    [
        "1,1,NIFTY25NOVFUT,NIFTY,0,,0,0.1,75,FUT,NFO-FUT,NFO",
        "1,1,NIFTY25NOVFUT,NIFTY,0,2025-11-31,0,0.1,75,FUT,NFO-FUT,NFO",
        "1,1,NIFTY25NOVFUT,NIFTY,0,25-11-2025,0,0.1,75,FUT,NFO-FUT,NFO",
        "1,1,NIFTY25NOVFUT,NIFTY,0,2025-11-25,0,0.1,75,EQ,NFO-FUT,NFO",
        "1,1,NIFTY25NOVFUT,NIFTY,0,2025-11-25,0,0.1,75,FUT,BFO-FUT,BFO",
        "\n".join(f"1,1,NIFTY25NOVFUT,N,0,{day},0,0.1,75,FUT,NFO-FUT,NFO" for day in ("2025-11-25", "2025-11-27")),
    ],
    ids=["no expiry", "no day", "another form", "no contract", "another exchange", "two expiries"],
)
def test_a_row_that_names_no_one_expiry_gives_none(row: str) -> None:
    last = "2,2,NIFTY25DECFUT,NIFTY,0,2025-12-30,0,0.1,75,FUT,NFO-FUT,NFO\n"
    assert contracts(f"{HEAD}{row}\n{last}".encode(), "NFO", {FUTURE}).rows == {}


WHOLE = table_csv({FUTURE: Contract("2025-11-25", name="NIFTY"), OPTION: Contract("2025-11-25", "PE", D(1500), 500)})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        HEAD.encode(),
        WHOLE[:-3].encode(),
        WHOLE[:-8].encode(),
        WHOLE[:-30].encode(),
        b"\xff\xfe" + WHOLE.encode(),
        WHOLE.replace("expiry", "last_day").encode(),
        WHOLE.replace(",NFO\n", ",BFO\n").encode(),
        WHOLE.replace('""', '"x').encode(),
    ],
    ids=[
        "nothing",
        "no row",
        "cut in a field",
        "cut before a field",
        "cut",
        "not text",
        "no column",
        "another's",
        "open",
    ],
)
def test_a_table_that_is_cut_or_cannot_be_read_says_nothing(content: bytes) -> None:
    with pytest.raises(BadAnswer):
        contracts(content, "NFO", {FUTURE})


# -- when it is read -----------------------------------------------------------------------------------------------


class Tables:
    """What the exchange gives at each reading, one after the other, and when they were read."""

    def __init__(self, *contents: bytes) -> None:
        self.contents = list(contents)
        self.now = at(10)
        self.read: list[str] = []
        self.kept = ContractTables("eq", self._read)

    async def _read(self, exchange: str) -> Table:
        self.read.append(exchange)
        return Table(self.contents.pop(0) if self.contents else WHOLE.encode(), broker_time(self.now))

    async def seek(self, *names: str, now: datetime | None = None) -> None:
        """Until what is being read has been."""
        self.now = now or self.now
        self.kept.seek(names, broker_time(self.now))
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others)

    def certain(self, name: str, at: datetime) -> bool | None:
        self.kept.note_trades(broker_time(at))
        facts = self.kept.facts(broker_time(at), trades_known=True).get(name)
        return None if facts is None else facts.has_expired(broker_time(at))


async def test_a_table_is_read_once_a_day_and_of_an_exchange_of_contracts_alone() -> None:
    tables = Tables()
    for now in (at(10), at(10, 1), at(16), at(9, 0, day=26), at(9, 1, day=26)):
        await tables.seek(FUTURE, SHARE, OPTION, now=now)
    assert tables.read == ["NFO", "NFO"]
    await tables.seek("BFO:SENSEX25NOVFUT")
    assert tables.read == ["NFO", "NFO", "BFO"]


async def test_one_that_is_asked_for_later_is_looked_up_in_the_same_table() -> None:
    tables = Tables()
    await tables.seek(FUTURE)
    await tables.seek(OPTION)
    assert (tables.read, tables.certain(OPTION, at(15, 31))) == (["NFO"], True)


async def test_a_table_that_is_cut_is_read_again_after_a_while() -> None:
    tables = Tables(WHOLE[:-8].encode())
    await tables.seek(FUTURE)
    await tables.seek(FUTURE, now=at(10, 5))
    assert (tables.read, tables.certain(FUTURE, at(15, 31))) == (["NFO"], None)
    await tables.seek(FUTURE, now=at(10) + AGAIN_AFTER)
    assert (tables.read, tables.certain(FUTURE, at(15, 31))) == (["NFO", "NFO"], True)


async def test_before_todays_table_is_made_none_is_read() -> None:
    tables = Tables()
    await tables.seek(FUTURE, now=at(8, 29))
    assert tables.read == []


@pytest.mark.parametrize(
    ("content", "read_at"),
    [
        (WHOLE + "9,9,X25NOVFUT,X,0,2025-11-24,0,0.1,75,FUT,NFO-FUT,NFO\n", at(10)),
        (WHOLE, at(10, day=24)),
        (WHOLE.replace("2025-11-25", "2025-11-27"), at(10)),
    ],
    ids=["it lists what expired before", "it was read on an earlier day", "another day"],
)
async def test_only_the_table_of_a_contracts_last_day_makes_its_end_certain(content: str, read_at: datetime) -> None:
    tables = Tables(content.encode())
    await tables.seek(FUTURE, now=read_at)
    assert tables.certain(FUTURE, at(16)) is False


async def test_it_has_expired_when_its_last_session_is_over_and_every_trade_of_that_is_known() -> None:
    tables = Tables()
    await tables.seek(FUTURE)
    assert [tables.certain(FUTURE, now) for now in (at(15, 29), at(15, 30), at(9, day=26))] == [False, True, True]
    unseen = Tables()
    await unseen.seek(FUTURE)
    unseen.certain(FUTURE, at(15, 29))
    assert unseen.certain(FUTURE, at(9, day=26)) is False


async def test_what_is_long_over_is_forgotten() -> None:
    tables = Tables()
    await tables.seek(FUTURE)
    assert FUTURE in tables.kept.facts(broker_time(at(12, day=30)), trades_known=True)
    assert tables.kept.facts(broker_time(at(12, day=30) + timedelta(days=7)), trades_known=True) == {}


async def test_with_trades_that_are_not_known_nothing_has_expired() -> None:
    tables = Tables()
    await tables.seek(FUTURE)
    tables.kept.note_trades(broker_time(at(16)))
    (facts,) = tables.kept.facts(broker_time(at(16)), trades_known=False).values()
    assert not facts.has_expired(broker_time(at(16)))


# -- the whole way -------------------------------------------------------------------------------------------------


AFTER_THE_CLOSE = at(15, 40)


@dataclass(frozen=True)
class Life:
    """A contract's last day, as it may go: what is ``listed`` on it, ``until`` when it is looked at, and whether a new
    process looks at it ``again``. ``says`` is the cause of its absence in the next morning."""

    story: str
    says: Cause
    listed: Callable[[KiteSimulator], object] = lambda sim: sim.describe(FUTURE, LAST_DAY, name="NIFTY")
    until: datetime = AFTER_THE_CLOSE
    again: bool = False
    in_table: bool = True

    def __str__(self) -> str:
        return self.story


def a_table(content: str, kind: str = "text/csv") -> Callable[[KiteSimulator], object]:
    return lambda sim: sim.answer_with(RawReply(200, content.encode(), kind), times=99, match="instruments GET")


LIVES = [
    Life("it expired", Cause.EXPIRY),
    Life("it expired, and a new process looks", Cause.EXPIRY, again=True),
    Life(
        "no table is to be had",
        Cause.UNEXPLAINED,
        lambda sim: sim.faults.add(Fault.SERVER_ERROR, times=99, match="instruments"),
        in_table=False,
    ),
    Life("it is in no table", Cause.UNEXPLAINED, lambda sim: sim.list_instruments(SHARE), in_table=False),
    Life("the table is cut", Cause.UNEXPLAINED, a_table(WHOLE[:-8]), in_table=False),
    Life("the table is a page", Cause.UNEXPLAINED, a_table("<html>login</html>", "text/html"), in_table=False),
    Life(
        "the table is late",
        Cause.UNEXPLAINED,
        lambda sim: sim.faults.add(Fault.TIMEOUT, times=99, match="instruments"),
        in_table=False,
    ),
    Life("its last day is another", Cause.UNEXPLAINED, lambda sim: sim.describe(FUTURE, date(2025, 11, 27), name="N")),
    Life("nobody looked at its last hour", Cause.UNEXPLAINED, until=at(14, 30), again=True),
    Life("nobody looked, and the same process goes on", Cause.UNEXPLAINED, until=at(14, 30)),
]


@pytest.mark.parametrize("life", LIVES, ids=str)
async def test_a_contract_that_is_gone_after_its_last_day_has_expired_where_the_exchanges_table_says_so(
    life: Life, tmp_path: Path
) -> None:
    async with an_account(tmp_path) as world:
        assert isinstance(world.simulator, KiteSimulator)
        life.listed(world.simulator)
        await world.verdict()
        if life.in_table:
            await until_the_table_is_read(world)
        it_is(world, life.until)
        assert (await world.verdict()).status == "SUCCESS"
        gone_at = at(9, 20, day=26)
        it_is(world, gone_at)
        world.simulator.faults.clear()
        world.simulator.end_day()
        world.simulator.expire(FUTURE)
        if life.again:
            await world.account.close()
            world.simulator.set_clock(world.runtime.clock.ahead.total_seconds())
            world.broker, world.account = opened(world.simulator, world.runtime)
            world.instrument = world.make_instrument()
        first = await world.verdict()
        it_is(world, gone_at + timedelta(minutes=6))  # the broker may have been loading its day
        report = await world.verdict()
        assert (report.status, quantities(report)) == ("SUCCESS", {})
        if life.says is Cause.EXPIRY:
            assert first.status == "SUCCESS"  # it is not waited for
        both = [one.found for one in (*first.discrepancies, *report.discrepancies)]
        (found,) = [one for one in both if one.type is DiscrepancyType.NAKED_POSITION]
        severity = Severity.INFO if life.says is Cause.EXPIRY else Severity.CRITICAL
        assert (found.cause, found.severity) == (life.says, severity)


async def test_a_contract_that_is_gone_within_its_last_session_has_not_expired(tmp_path: Path) -> None:
    async with an_account(tmp_path) as world:
        assert isinstance(world.simulator, KiteSimulator)
        world.simulator.describe(FUTURE, LAST_DAY, name="NIFTY")
        await world.verdict()
        await until_the_table_is_read(world)
        world.simulator.set_position(FUTURE, "NRML", D(0), D(0))
        report = await world.verdict()
        (found,) = [one.found for one in report.discrepancies]
        assert (found.type, found.cause) == (DiscrepancyType.NAKED_POSITION, Cause.UNEXPLAINED)


async def test_one_that_was_sold_on_its_last_day_was_sold(tmp_path: Path) -> None:
    async with an_account(tmp_path) as world:
        assert isinstance(world.simulator, KiteSimulator)
        world.simulator.describe(FUTURE, LAST_DAY, name="NIFTY")
        await world.verdict()
        await until_the_table_is_read(world)
        it_is(world, at(15, 20))
        world.simulator.trade(FUTURE, SELL, D(75), product="NRML")
        it_is(world, at(15, 40))
        report = await world.verdict()
        assert quantities(report) == {}
        assert Cause.EXPIRY not in {one.found.cause for one in report.discrepancies}


async def test_a_cycle_does_not_wait_for_a_table(tmp_path: Path) -> None:
    async with an_account(tmp_path, timeout_s=2 * PATIENCE_S) as world:
        world.simulator.faults.add(Fault.TIMEOUT, times=99, match="instruments")
        snapshot = await asyncio.wait_for(world.broker.snapshot(None), PATIENCE_S)  # the table's time-out is longer
        assert snapshot.contracts == {}


def test_a_books_record_of_a_contract_keeps_whether_its_end_is_certain_and_one_of_before_is_read() -> None:
    facts = ContractFacts(kind="FUT", expiry=LAST_DAY, ends_at=broker_time(at(15, 30)), expiry_certain=False)
    assert payloads.contract_from(payloads.contract_to(facts)) == facts
    tws = ContractFacts("1", "OPT", LAST_DAY, "C", D(50))
    record = payloads.contract_to(tws)
    assert not {"ends_at", "expiry_certain"} & record.keys()
    assert payloads.contract_from(record) == tws


@pytest.mark.parametrize(
    ("now", "of_a_session", "of_a_day"),
    [
        (at(5, 30), False, False),
        (at(15, 29), False, False),
        (at(15, 30), True, False),
        (at(17, 29) + timedelta(days=1), True, False),
        (at(17, 30) + timedelta(days=1), True, True),
    ],
)
def test_a_contract_ends_with_its_last_session_and_where_that_is_not_known_when_its_last_day_is_over_everywhere(
    now: datetime, of_a_session: bool, of_a_day: bool
) -> None:
    """It is over last at UTC-12, at 17:30 of the next day in India."""
    assert ContractFacts(expiry=LAST_DAY, ends_at=broker_time(at(15, 30))).has_expired(broker_time(now)) is of_a_session
    assert ContractFacts(expiry=LAST_DAY).has_expired(broker_time(now)) is of_a_day
