"""What is true at the broker, of every instrument of one account, and since when."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random

from brokers.model import Conventions, CostBasis, Fill, IdScope, LegScheme, Order, Side
from tests.simulation.clocks import WallClock, time_s
from tests.unit.model_broker import ModelBroker

Legs = dict[str, Decimal]


@dataclass
class Traded(ModelBroker):
    """One instrument at the broker. Its ``now_ms`` counts true microseconds, in which the broker numbers what happens;
    its times are those of the broker's own clock."""

    clock: WallClock | None = None
    resolution: timedelta = timedelta(milliseconds=1)
    truths: list[tuple[float, Legs]] = field(default_factory=list)
    streamed: int = 0

    @property
    def time(self) -> datetime:
        assert self.clock is not None
        return floored(self.clock.exact(), self.resolution)

    @property
    def stamp(self) -> datetime:
        return self.time

    def next_id(self, prefix: str) -> str:
        return f"{super().next_id(prefix)}.{self.instrument}"

    def held(self) -> Legs:
        return {name: leg.quantity for name, leg in self.legs.items()}


def floored(at: datetime, resolution: timedelta) -> datetime:
    """The begin of the second, or of the millisecond."""
    return at - timedelta(microseconds=at.microsecond % (resolution // timedelta(microseconds=1)))


class Market:
    """Everything that happens at one broker account. ``lied_s`` is when it was last reported falsely, as if it were
    true, what is held: nobody can see through that."""

    def __init__(
        self, instruments: tuple[str, ...], clock: WallClock, random: Random, *, resolution: timedelta
    ) -> None:
        self.clock = clock
        self.resolution = resolution
        scheme, basis = random.choice(tuple(LegScheme)), random.choice(tuple(CostBasis))
        shows_ended, reports_fills = random.random() < 0.5, random.random() < 0.8
        daily_ids = random.random() < 0.4
        self.reports_fills = reports_fills
        self.conventions = Conventions(
            scheme, basis, fill_ids=IdScope.TRADING_DAY_AND_SIDE if daily_ids else IdScope.ACCOUNT
        )
        self.traded = {
            name: Traded(
                scheme, basis, shows_ended, reports_fills, daily_ids, instrument=name, clock=clock,
                resolution=resolution,
            )
            for name in instruments
        }  # fmt: skip
        for one in self.traded.values():
            one.truths.append((0.0, {}))
        self.lied_s = -1e9
        self._last = 0
        self._tickets = 0

    def tick(self) -> int:
        """The number of what happens next, greater than every one before."""
        self._last = max(self._last + 1, int(time_s() * 1_000_000))
        for one in self.traded.values():
            one.now_ms = self._last
        return self._last

    def happened(self, instrument: str) -> None:
        """Something changed there: it is true from now on."""
        one = self.traded[instrument]
        held = one.held()
        if one.truths[-1][1] != held:
            one.truths.append((time_s(), held))

    def executed(self, instrument: str) -> list[tuple[Fill, Order]]:
        """The fills there since this was last asked, each with its order's row; none where it reports no fills."""
        one = self.traded[instrument]
        new, one.streamed = one.fills[one.streamed :], len(one.fills)
        return [(fill, one.row_of(fill)) for _, fill in new] if self.reports_fills else []

    def report_all(self) -> None:
        """Everything that was to be reported later is reported now."""
        now = self.tick()
        for one in self.traded.values():
            one.fills = [(min(shown, now), fill) for shown, fill in one.fills]

    def last_true_s(self, instrument: str, held: Legs) -> float | None:
        """When these legs were last all that was held; ``None`` for never."""
        truths = self.traded[instrument].truths
        if truths[-1][1] == held:
            return time_s()
        return next((truths[n + 1][0] for n in range(len(truths) - 2, -1, -1) if truths[n][1] == held), None)

    def words(self, instrument: str) -> str:
        """What is held there, and what works."""
        held = ", ".join(f"{leg} {quantity}" for leg, quantity in self.traded[instrument].held().items())
        orders = (f"{r.broker_order_id} {r.side} {r.filled_quantity}/{r.quantity}" for r in self.working(instrument))
        return f"{held or 'flat'}; {', '.join(orders) or 'no order'}"

    def _ticket(self) -> str:
        """The number of a position that is to be."""
        self._tickets += 1
        return str(700 + self._tickets)

    def working(self, instrument: str) -> list[Order]:
        return [row for row in self.traded[instrument].orders.values() if not row.status.terminal]

    def leg(self, instrument: str, random: Random) -> str:
        """Some leg that may be traded."""
        one = self.traded[instrument]
        if one.scheme is LegScheme.NET:
            return "net"
        if one.scheme is LegScheme.SIDED:
            return random.choice(("long", "short"))
        held = sorted(one.legs)
        return random.choice(held) if held and random.random() < 0.7 else self._ticket()

    def execute(self, instrument: str, broker_id: str, quantity: int, price: int, delay_us: int) -> Fill | None:
        self.tick()
        done = self.traded[instrument].execute(broker_id, quantity, price, delay_us)
        self.happened(instrument)
        return done

    def place(self, instrument: str, client_id: str | None, side: Side, quantity: int, price: int) -> str:
        self.tick()
        leg = self._ticket() if self.conventions.legs is LegScheme.TICKET else None
        broker_id = self.traded[instrument].place(client_id, side, quantity, price, leg)
        self.happened(instrument)
        return broker_id
