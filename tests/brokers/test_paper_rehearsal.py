"""The how-to for a rehearsal: its Python is run as it stands, on one paper account."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path
from typing import Any

from actors.events import EventType
from actors.runtime.ray_environment import Address
from brokers.model import LegScheme
from supervisor.client.calls import AwaitingPort
from supervisor.client.connection import Connection, Place
from supervisor.client.instrument import AsyncInstrument, AsyncVenue, Named
from tests.brokers.test_paper_end_to_end import EURUSD, NAME, a_house
from tests.unit.handle_cases import LINK

HOW_TO = Path(__file__).parents[2] / "docs" / "howto" / "rehearse.md"
ACCOUNT = "{name: rehearsal, broker: paper, instruments: [EURUSD]}"


class _Awaited(ast.NodeTransformer):
    """What the page calls and blocks for is awaited here, and what it prints is kept."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        of = node.func.value if isinstance(node.func, ast.Attribute) else None
        return ast.Await(node) if isinstance(of, ast.Name) and of.id in ("venue", "eur") else node


def _program() -> Any:
    (block,) = re.findall(r"```python\n(.*?)```", HOW_TO.read_text(), flags=re.DOTALL)
    page = ast.parse(textwrap.dedent("    " + block.lstrip()))
    trades = [_Awaited().visit(one) for one in page.body if not isinstance(one, ast.Import | ast.Assign)]
    module = ast.fix_missing_locations(ast.Module(trades, []))
    return compile(module, "rehearse.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


async def test_the_how_to_shows_what_it_says(tmp_path: Path) -> None:
    shown: list[str] = []
    async with a_house(tmp_path, ACCOUNT) as house:
        port = AwaitingPort(house.runtime, LINK)
        connection = Connection(Place(Address("nowhere:1", None), "test", "a test"), LINK, port, port)  # type: ignore[arg-type] # nothing blocks here
        eur = AsyncInstrument(Named("rehearsal", EURUSD, NAME, LegScheme.NET), connection, lambda: port)
        names = {"eur": eur, "venue": AsyncVenue("rehearsal", lambda: port)}

        await eval(_program(), names | {"print": lambda book: shown.append(str(book))})  # noqa: S307 - our own page

    bought, resting, sold = shown
    assert re.search(r"net +1000 +1\.1002", bought)
    assert re.search(r"P2 +c2 +SELL +1000 .* OPEN", resting)
    assert "no position in the book" in sold
    assert repr(names["venue"]) == "<venue of account rehearsal>"


async def test_an_order_without_its_type_or_price_learns_what_to_give(tmp_path: Path) -> None:
    async with a_house(tmp_path, ACCOUNT) as house:
        await house.feed("1.1")
        for client, kind in (("c1", "UNKNOWN"), ("c2", "LIMIT")):
            await house.record(client, kind=kind)
        await house.verdict()
        records = await house.audit.records(stream=NAME, types=[EventType.ORDER_REJECTED])

    without_type, without_limit = (str(record.event.payload["order"]) for record in records)
    assert "it names no order type: give order_type MARKET, LIMIT or STOP" in without_type
    assert "it names no limit_price, which a LIMIT order needs" in without_limit
