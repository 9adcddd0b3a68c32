"""Which legs there can be, by how an account keeps positions."""

from __future__ import annotations

import json

import pytest

from actors.book.legs import impossible
from brokers.model import LegScheme
from supervisor.cli.record_lines import BadLines, read

NET = LegScheme.NET


@pytest.mark.parametrize(
    ("leg", "products", "possible"),
    [
        ("net", True, False),
        ("NRML", True, True),
        ("holdings", True, True),
        ("long", True, False),
        ("net", False, True),
        ("CNC", False, False),
        ("net", None, True),
        ("CNC", None, True),
        ("holdings", None, True),
        ("7", None, False),
    ],
)
def test_an_account_with_products_has_a_leg_for_each_and_none_called_net(
    leg: str, products: bool | None, possible: bool
) -> None:
    assert (impossible(NET, leg, None, products=products) is None) is possible


def line(leg: str | None, quantity: str) -> bytes:
    named = {} if leg is None else {"leg": leg}
    row = {"kind": "position", "instrument": "NSE:INFY", "quantity": quantity, "average_price": "100", **named}
    return json.dumps(row).encode()


@pytest.mark.parametrize(
    ("leg", "quantity", "taken"),
    [("net", "10", False), (None, "10", False), ("CNC", "10", True), ("holdings", "10", True), ("net", "0", True)],
    ids=["net", "none named", "a product", "holdings", "net, to be emptied"],
)
def test_a_recorded_position_of_an_account_with_products_names_one(leg: str | None, quantity: str, taken: bool) -> None:
    if taken:
        assert read(line(leg, quantity), None, NET, products=True).lines == 1
        return
    with pytest.raises(BadLines) as refused:
        read(line(leg, quantity), None, NET, products=True)
    assert "product" in str(refused.value.problems[0])


def test_a_line_of_an_account_without_products_goes_on_to_mean_its_one_leg() -> None:
    ((report,),) = read(line(None, "10"), None, NET, products=False).reports.values()
    assert report.leg == "net"
