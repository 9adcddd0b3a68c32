"""What an instrument is at Interactive Brokers: its conId, from the first look on, whatever it is called by now."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from actors.book.discrepancies import CAUSES, Cause, DiscrepancyType
from actors.events import Severity
from brokers.model import Side, rows_of
from brokers.simulators.base import Fault
from brokers.simulators.ib_wire import SimContract
from tests.brokers.at_ib import (
    SHORT_TIMEOUT_S,
    D,
    connected,
    simulated,
)
from tests.brokers.reading import held, now
from tests.brokers.test_ib_stories import a_desk
from tests.brokers.test_local import configured, verdicts

NASDAQ = SimContract(265598, "AAPL", exchange="NASDAQ", local_symbol="AAPL", trading_class="NMS")
MEXICO = SimContract(38708077, "AAPL", exchange="MEXI", currency="MXN", local_symbol="AAPL", trading_class="AAPL")


@pytest.mark.parametrize("by_name", [(), ("AAPL",)], ids=["all", "configured"])
async def test_a_flat_row_of_another_listing_takes_no_name_from_the_listing_that_is_held(
    by_name: tuple[str, ...],
) -> None:
    with simulated() as tws:
        tws.describe("AAPL", NASDAQ)
        tws.set_position("AAPL", "net", D(100), D(200))
        tws.add_row("reqPositions", ["61", "3", "DU1", *MEXICO.fields(), "0", "0"])
        async with connected(tws, instruments=by_name) as broker:
            snapshot = await broker.snapshot(None)
            assert held(snapshot) == {("AAPL", "net"): D(100)}
            assert snapshot.contracts["AAPL"].identity == "265598"


async def test_a_ticker_that_changes_is_the_same_book_and_its_working_order_is_its_own() -> None:
    async with a_desk() as desk:
        tws = desk.tws
        tws.describe("FB", SimContract(107113386, "FB", local_symbol="FB"))
        tws.set_position("FB", "net", D(100), D(200))
        order = tws.place_limit("FB", Side.SELL, D(100), D(300), "c1")
        await desk.look("FB")
        contract = desk.books["FB"].contract
        assert contract is not None
        tws.describe("FB", SimContract(107113386, "META", local_symbol="META"))
        async with connected(tws, client_id=18) as after_a_restart:
            after_a_restart.identify({"FB": contract.identity or ""})
            desk.broker = after_a_restart
            assert await desk.look("FB") == []
            assert desk.quantities() == {"FB": D(100)}
            assert [o.broker_order_id for o in desk.books["FB"].open_orders()] == [order]


async def test_a_ticker_that_changed_overnight_is_the_same_book_for_a_new_process(tmp_path: Path) -> None:
    with simulated(clock=now) as tws:
        account = (
            f"  - {{name: i, broker: ib, host: 127.0.0.1, port: {tws.port}, client_id: 17, account_id: DU1,"
            " instruments: [FB]}\n"
        )
        configuration = configured(tmp_path, account)
        tws.describe("FB", SimContract(107113386, "FB", local_symbol="FB"))
        tws.set_position("FB", "net", D(100), D(200))
        await verdicts(configuration)
        tws.describe("FB", SimContract(107113386, "META", local_symbol="META"))
        ((_, (report,)),) = await verdicts(configuration)
        assert (report.instrument, report.status, report.discrepancies) == ("FB", "SUCCESS", ())
        (leg,) = cast("list[dict[str, str]]", report.book["legs"])
        assert leg["quantity"] == "100"


async def test_a_name_that_means_another_company_by_now_is_not_taken_for_the_contract_of_the_book() -> None:
    with simulated() as tws:
        tws.describe("new", SimContract(999, "FB", local_symbol="FB"))
        tws.set_position("new", "net", D(7), D(10))
        async with connected(tws, instruments=("FB",)) as broker:
            broker.identify({"FB": "107113386"})
            assert held(await broker.snapshot(None)) == {("999", "net"): D(7)}


async def test_a_contract_replaced_by_another_is_one_break_with_its_ratio_for_a_person_to_confirm() -> None:
    async with a_desk() as desk:
        tws = desk.tws
        tws.describe("old", SimContract(111, "XYZ", local_symbol="XYZ"))
        tws.describe("new", SimContract(222, "XYZ", local_symbol="XYZ"))
        tws.set_position("old", "net", D(1000), D(2))
        await desk.look("XYZ")
        desk.broker.identify({"XYZ": "111"})
        tws.set_position("old", "net", D(0), D(0))
        tws.set_position("new", "net", D(100), D(20))
        found = await desk.look("XYZ")
        (break_,) = desk.books["XYZ"].breaks.values()
        assert {d.found.id for d in found} == {break_.id}
        assert (break_.type, break_.cause) == (DiscrepancyType.NAKED_POSITION, Cause.REPLACED_BY)
        assert break_.severity is CAUSES[Cause.REPLACED_BY].severity is Severity.WARNING
        assert break_.linked == ("222",)
        assert break_.detail is not None
        assert "1:10" in break_.detail
        assert desk.quantities() == {"XYZ": D(1000)}


# -- exercise and assignment -------------------------------------------------------------------------------------

PUT, CALL = "XYZ   261218P00050000", "XYZ   261218C00050000"


@pytest.mark.parametrize(
    ("option", "options", "before", "after", "cause"),
    [
        (PUT, -1, (0, 0), (100, 50), Cause.ASSIGNMENT),
        (PUT, -2, (300, 40), (500, 44), Cause.ASSIGNMENT),
        (CALL, -1, (100, 40), (0, 0), Cause.ASSIGNMENT),
        (CALL, 1, (0, 0), (100, 50), Cause.EXERCISE),
    ],
    ids=["a put makes shares", "two puts beside shares held", "a covered call takes them", "a call exercised"],
)
async def test_an_option_that_became_its_underlying_is_one_story_in_both_books(
    option: str, options: int, before: tuple[int, int], after: tuple[int, int], cause: Cause
) -> None:
    async with a_desk() as desk:
        tws = desk.tws
        tws.describe("XYZ", SimContract(500, "XYZ", local_symbol="XYZ"))
        tws.set_position(option, "net", D(options), D(1))
        tws.set_position("XYZ", "net", D(before[0]), D(before[1]))
        await desk.look(option, "XYZ")
        with_both = {name: D(value) for name, value in ((option, options), ("XYZ", before[0])) if value}
        assert desk.quantities() == with_both
        tws.set_position(option, "net", D(0), D(0))
        tws.set_position("XYZ", "net", D(after[0]), D(after[1]))
        found = await desk.look(option, "XYZ")
        assert {d.found.cause for d in found} == {cause}
        assert {d.found.linked for d in found} == {("XYZ",), (option,)}
        assert {d.found.severity for d in found} == {CAUSES[cause].severity}
        assert desk.quantities() == ({"XYZ": D(after[0])} if after[0] else {})


@pytest.mark.parametrize("after", [(100, 47), (99, 50)], ids=["not at the strike", "not its number"])
async def test_shares_that_came_otherwise_than_by_the_option_leave_it_unexplained(after: tuple[int, int]) -> None:
    async with a_desk() as desk:
        tws = desk.tws
        tws.describe("XYZ", SimContract(500, "XYZ", local_symbol="XYZ"))
        tws.set_position(PUT, "net", D(-1), D(1))
        await desk.look(PUT, "XYZ")
        tws.set_position(PUT, "net", D(0), D(0))
        tws.set_position("XYZ", "net", D(after[0]), D(after[1]))
        assert {d.found.cause for d in await desk.look(PUT, "XYZ")} == {Cause.UNEXPLAINED}


CORN = SimContract(651000001, "ZC", "FUT", "20270312", multiplier="5000", local_symbol="ZCH7", magnifier="100")
VODAFONE = SimContract(12345, "VOD", currency="GBP", local_symbol="VOD", magnifier="100")


@pytest.mark.parametrize(
    ("contract", "price"), [(CORN, "450.25"), (VODAFONE, "71.5")], ids=["grain in cents", "a share in pence"]
)
async def test_what_is_quoted_in_hundredths_has_the_average_price_of_its_own_fills(
    contract: SimContract, price: str
) -> None:
    async with a_desk() as desk:
        tws = desk.tws
        tws.describe("it", contract)
        tws.set_price("it", D(price))
        await desk.look(contract.local_symbol)
        tws.trade("it", Side.BUY, D(3))
        found = await desk.look(contract.local_symbol)
        assert DiscrepancyType.PRICE_MISMATCH not in {d.found.type for d in found}
        snapshot = await desk.broker.snapshot(None)
        (row,) = rows_of(snapshot.positions)
        fee = D(1) / 3 / (D(contract.multiplier or 1) / 100)
        assert abs(row.average_price - (D(price) + fee)) < D("1e-12")
        assert tws.requests.count("reqContractDetails") == 1


async def test_while_tws_does_not_say_in_what_a_contract_is_quoted_its_average_price_is_not_known() -> None:
    with simulated() as tws:
        tws.describe("it", CORN)
        tws.set_position("it", "net", D(3), D("450.25"))
        tws.faults.add(Fault.TIMEOUT, match="reqContractDetails")
        async with connected(tws, timeout_s=SHORT_TIMEOUT_S) as broker:
            (row,) = rows_of((await broker.snapshot(None)).positions)
            assert (row.quantity, row.price_told) == (D(3), False)
            (row,) = rows_of((await broker.snapshot(None)).positions)
            assert (row.average_price, row.price_told) == (D("450.25"), True)


async def test_every_contract_is_reported_with_what_it_is() -> None:
    with simulated() as tws:
        tws.set_position(PUT, "net", D(-1), D(1))
        async with connected(tws) as broker:
            snapshot = await broker.snapshot(None)
            (row,) = rows_of(snapshot.positions)
            facts = snapshot.contracts[row.instrument]
            assert (facts.kind, facts.right, facts.strike, facts.multiplier) == ("OPT", "P", D(50), D(100))
            assert (facts.underlying, facts.currency, facts.held) == ("XYZ", "USD", True)
