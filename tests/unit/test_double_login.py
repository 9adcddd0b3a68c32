"""Two configured accounts that reach one login, seen by a running supervisor: the second keeps no book of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from brokers.port import AccountFacts
from supervisor.config.loader import load
from supervisor.supervision.logins import double_logins
from tests.unit.fakes import FakeBroker
from tests.unit.hall import Hall, Status, a_hall, rows
from tests.unit.virtual_time import virtual_time

TWO_GATEWAYS = """
  - {name: one, broker: mt5, endpoint: 'tcp://127.0.0.1:1', instruments: [EURUSD]}
  - {name: two, broker: mt5, endpoint: 'tcp://127.0.0.1:2', instruments: [EURUSD]}
"""


class Known(FakeBroker):
    """A broker that says whose account it is."""

    login = "5001"

    def described(self) -> AccountFacts:
        return AccountFacts(login=self.login)


def known(hall: Hall, **logins: str) -> None:
    for name, login in logins.items():
        broker = Known(hall.clock)
        broker.login = login
        broker.hold(1)
        hall.brokers[name] = broker


@virtual_time
async def test_the_second_account_of_one_login_is_refused_with_the_reason_until_it_is_another_login(
    tmp_path: Path,
) -> None:
    async with a_hall(tmp_path, TWO_GATEWAYS) as hall:
        known(hall, one="5001", two="5001")

        def second(status: Status) -> dict[str, Any]:
            return next(one for one in status["accounts"] if one["account"] == "two")

        def refused(status: Status) -> bool:
            shown = second(status)["connection"], rows(status)["two/EURUSD"]["status"]
            return shown == ("REFUSED", "DEGRADED")

        status = await hall.until(refused, "the second is refused")
        assert rows(status)["one/EURUSD"]["status"] == "SUCCESS"
        for words in (second(status)["error"], rows(status)["two/EURUSD"]["error"]):
            assert "reaches login 5001, which account one reaches too" in words
        broker = hall.brokers["two"]
        assert isinstance(broker, Known)
        broker.login = "5002"
        await hall.up()


@pytest.mark.parametrize(
    ("accounts", "logins", "doubled"),
    [
        (TWO_GATEWAYS, {"one": "5001", "two": "5001"}, {"two"}),
        (TWO_GATEWAYS, {"one": "5001", "two": "5002"}, set()),
        (TWO_GATEWAYS, {"one": None, "two": None}, set()),
        (TWO_GATEWAYS, {"two": "5001"}, set()),
        (TWO_GATEWAYS.replace("mt5, endpoint: 'tcp://127.0.0.1:2'", "paper"), {"one": "5001", "two": "5001"}, set()),
        (
            TWO_GATEWAYS.replace("endpoint: 'tcp://127.0.0.1:2'", "simulator: true"),
            {"one": "5001", "two": "5001"},
            set(),
        ),
    ],
    ids=["the same", "others", "not known", "one alone", "at another broker", "at a simulator of its own"],
)
def test_a_login_is_doubled_where_an_earlier_account_of_the_same_broker_has_it(
    accounts: str, logins: dict[str, str | None], doubled: set[str], tmp_path: Path
) -> None:
    path = tmp_path / "accounts.yaml"
    path.write_text(f"journal: {{url: 'sqlite:///{tmp_path}/journal.db'}}\naccounts: {accounts}")
    assert set(double_logins(logins, load(path))) == doubled
