"""A simulated account that trades by itself, so that every kind of discrepancy can be watched.

Actions are drawn from a shuffled bag that is refilled when it is empty: each kind occurs once in every ``len(KINDS)``
steps, which independent draws would not guarantee. What a step needs and does not find (an order to fill, a position to
close) is made first. After each step the whole state is on disk, so that killing the process that serves the simulated
broker loses nothing that the broker knew.
"""

from __future__ import annotations

import json
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from loguru import logger

from brokers.kit.whole_file import write_whole
from brokers.model import LONG, NET, SHORT, LegScheme, Side
from brokers.simulators.base import DayEnding, Simulator

KINDS = (
    "external trade",
    "order placed",
    "vanished position",
    "quantity drift",
    "partial fill",
    "unexplained position",
    "full fill",
    "external close",
    "order cancelled",
)
USUAL_PRICES = {
    "EURUSD": "1.08460",
    "GBPUSD": "1.26750",
    "AUDUSD": "0.65820",
    "NZDUSD": "0.60730",
    "USDCHF": "0.88410",
    "USDCAD": "1.36240",
    "USDJPY": "151.320",
    "EURJPY": "164.110",
    "GBPJPY": "191.840",
    "XAUUSD": "2381.40",
    "XAGUSD": "28.310",
}
"""First prices of well-known instruments, so that a demonstration looks real; others get made-up prices."""

_LARGEST_LEG_LOTS = 10
_MOST_LEGS = 3
_MOST_RESTING = 6


class Demonstration:
    """Moves one simulator, in steps of ``lot`` between one and ten lots at a time.

    ``legs`` says how the simulated account names the legs of a position. ``interval_s`` is the range from which the
    wait between two steps is drawn. Without ``state_file`` nothing outlives the process.
    """

    def __init__(
        self,
        simulator: Simulator,
        instruments: Sequence[str],
        legs: LegScheme,
        rng: random.Random,
        *,
        lot: Decimal,
        interval_s: tuple[float, float] = (3.0, 5.0),
        state_file: Path | None = None,
        today: Callable[[], str] = lambda: f"{datetime.now(UTC):%Y-%m-%d}",
    ) -> None:
        if not instruments:
            raise ValueError("a demonstration needs at least one instrument to trade")
        self._simulator = simulator
        self._instruments = tuple(instruments)
        self._legs = legs
        self._random = rng
        self._lot = lot
        self._interval_s = interval_s
        self._state_file = state_file
        self._today = today
        self._day = today()
        self._resting: dict[str, tuple[str, Decimal]] = {}
        self._bag: deque[str] = deque()
        self._orders = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._steps: dict[str, Callable[[], str | None]] = {
            "external trade": self._trade,
            "order placed": self._place,
            "vanished position": self._vanish,
            "quantity drift": self._drift,
            "partial fill": self._fill_in_part,
            "unexplained position": self._appear,
            "full fill": self._fill_the_rest,
            "external close": self._close_by_hand,
            "order cancelled": self._cancel,
        }

    # -- running ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Take over the kept state, or make a new world, and go on trading in a thread."""
        if self._thread is None:
            self.restore()
            self._stop.clear()
            self._thread = threading.Thread(target=self.run, args=(self._stop,), name="demonstration", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop trading, with the last state on disk. May be called twice."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def run(self, stop: threading.Event) -> None:
        """One step after another until ``stop`` is set. A step that fails is logged, and the next one runs."""
        while not stop.wait(self._random.uniform(*self._interval_s)):
            try:
                logger.debug("demonstration: {}", self.step())
                self.persist()
            except Exception as error:  # noqa: BLE001 - one failed step must not end the demonstration
                logger.warning("demonstration: a step failed: {!r}", error)

    def restore(self) -> None:
        """Load the state from the file, else make a new world. An unreadable file is logged and replaced."""
        if self._state_file is not None and self._state_file.exists():
            try:
                kept = json.loads(self._state_file.read_text(encoding="utf-8"))
                resting = {str(key): (str(symbol), Decimal(left)) for key, (symbol, left) in kept["resting"].items()}
                orders = int(kept["orders"])
                day = str(kept.get("day", self._day))
                self._simulator.load(kept["simulator"])
            except Exception as error:  # noqa: BLE001 - each simulator has its own way to reject a broken state
                logger.warning("demonstration: {} cannot be read ({!r}), starting anew", self._state_file, error)
            else:
                self._resting, self._orders, self._day = resting, orders, day
                return
        self.seed_world()
        self.persist()

    def persist(self) -> None:
        """Put the state on disk; a crash at any moment leaves the old or the new state, never half of one."""
        if self._state_file is None:
            return
        resting = {order_id: [symbol, str(left)] for order_id, (symbol, left) in self._resting.items()}
        text = json.dumps(
            {"simulator": self._simulator.dump(), "resting": resting, "orders": self._orders, "day": self._day}
        )
        self._state_file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._state_file, text.encode())

    # -- the script ------------------------------------------------------------------------------------------------

    def seed_world(self) -> None:
        """Make a few positions and resting orders, if the account holds nothing."""
        if self._simulator.positions():
            return
        for instrument in self._instruments:
            usual = USUAL_PRICES.get(instrument.replace("_", ""))
            if usual is not None:
                self._simulator.set_price(instrument, Decimal(usual))
        for place, instrument in enumerate(self._instruments):
            if place % 3 != 2:  # some instruments start flat
                self._simulator.trade(instrument, self._side(), self._quantity(), self._name())
            if place % 2 == 0:
                self._place(instrument)

    def step(self) -> str:
        """Do the next step; returns a line that describes it."""
        self._night()
        self._wander()
        if not self._bag:
            self._bag.extend(self._random.sample(KINDS, len(KINDS)))
        kind = self._bag.popleft()
        done = self._steps[kind]()
        while done is None:
            done = self._prepare(kind)
        return f"{kind}: {done}"

    def _night(self) -> None:
        """End the day at midnight UTC: where a broker drops its orders, its state stays within a day's."""
        if self._today() != self._day:
            self._day = self._today()
            gone = self._simulator.end_day() if isinstance(self._simulator, DayEnding) else frozenset()
            self._resting = {key: left for key, left in self._resting.items() if key not in gone}

    def _prepare(self, kind: str) -> str | None:
        """Make what a kind of step needs, and try it again."""
        if kind in {"partial fill", "full fill", "order cancelled"}:
            self._place()
        else:
            self._simulator.trade(self._instrument(), self._side(), self._quantity(), self._name())
        return self._steps[kind]()

    def _wander(self) -> None:
        instrument = self._instrument()
        price = self._simulator.price(instrument)
        moved = price * (1 + Decimal(self._random.randint(-50, 50)) / 100_000)
        self._simulator.set_price(instrument, moved.quantize(Decimal("0.00001")))

    def _trade(self) -> str:
        instrument = min(self._instruments, key=lambda name: (len(self._held(name)), self._random.random()))
        side = self._reducing_side(instrument)
        if len(self._held(instrument)) >= _MOST_LEGS:
            self._simulator.close_by_hand(instrument)
        quantity = self._quantity()
        self._simulator.trade(instrument, side, quantity, self._name())
        return f"somebody {'bought' if side is Side.BUY else 'sold'} {quantity} {instrument}"

    def _place(self, instrument: str | None = None) -> str:
        if len(self._resting) >= _MOST_RESTING:
            self._end(next(iter(self._resting)))
        chosen = instrument or self._instrument()
        side = self._reducing_side(chosen)
        # At least two lots, so that a part can be filled.
        quantity = self._lot * self._random.randint(2, _LARGEST_LEG_LOTS)
        away = Decimal("0.99") if side is Side.BUY else Decimal("1.01")
        price = (self._simulator.price(chosen) * away).quantize(Decimal("0.00001"))
        order_id = self._simulator.place_limit(chosen, side, quantity, price, self._name())
        self._resting[order_id] = (chosen, quantity)
        return f"order {order_id} to {side.lower()} {quantity} {chosen} at {price}"

    def _fill_in_part(self) -> str | None:
        order_id = next((key for key, (_, left) in self._resting.items() if left > self._lot), None)
        if order_id is None:
            return None
        instrument, left = self._resting.pop(order_id)
        quantity = self._lot * self._random.randint(1, int(left / self._lot) - 1)
        self._simulator.fill_order(order_id, quantity)
        if self._legs is not LegScheme.SIDED:  # OANDA's, where a partly filled order is over
            self._resting[order_id] = (instrument, left - quantity)
        return f"{quantity} of {left} left of order {order_id} in {instrument}"

    def _fill_the_rest(self) -> str | None:
        order_id = next(iter(self._resting), None)
        if order_id is None:
            return None
        instrument, left = self._resting.pop(order_id)
        self._simulator.fill_order(order_id)
        return f"the last {left} of order {order_id} in {instrument}"

    def _cancel(self) -> str | None:
        order_id = next(reversed(self._resting), None)
        return None if order_id is None else self._end(order_id)

    def _end(self, order_id: str) -> str:
        instrument, left = self._resting.pop(order_id)
        self._simulator.end_order(order_id)
        return f"order {order_id} in {instrument} with {left} left"

    def _close_by_hand(self) -> str | None:
        held = sorted({instrument for instrument, _ in self._simulator.positions()} & set(self._instruments))
        if not held:
            return None
        instrument = max(held, key=lambda name: (len(self._held(name)), abs(self._net(name))))
        self._simulator.close_by_hand(instrument)
        return f"somebody closed {instrument}"

    def _drift(self) -> str | None:
        found = self._some_leg()
        if found is None:
            return None
        instrument, leg, quantity = found
        lots = max(1, min(_LARGEST_LEG_LOTS, int(abs(quantity) / self._lot)))
        others = [count for count in range(1, _LARGEST_LEG_LOTS + 1) if count != lots]
        changed = (self._lot * self._random.choice(others)).copy_sign(quantity)
        self._simulator.set_position(instrument, leg, changed, self._simulator.price(instrument))
        return f"{instrument} {leg} is {changed} instead of {quantity}, unexplained"

    def _vanish(self) -> str | None:
        found = self._some_leg()
        if found is None:
            return None
        instrument, leg, quantity = found
        self._simulator.set_position(instrument, leg, Decimal(0), Decimal(0))
        return f"{quantity} {instrument} {leg} is gone, unexplained"

    def _appear(self) -> str:
        instrument = min(self._instruments, key=lambda name: (len(self._held(name)), self._random.random()))
        if self._held(instrument) and (self._legs is not LegScheme.TICKET or len(self._held(instrument)) >= _MOST_LEGS):
            self._simulator.close_by_hand(instrument)  # there must be room for what nothing explains
        side = self._side()
        quantity = side.sign * self._quantity()
        leg = {LegScheme.NET: NET, LegScheme.SIDED: LONG if quantity > 0 else SHORT, LegScheme.TICKET: ""}[self._legs]
        leg = self._simulator.set_position(instrument, leg, quantity, self._simulator.price(instrument))
        return f"{quantity} {instrument} {leg} is there, unexplained"

    # -- what there is ---------------------------------------------------------------------------------------------

    def _held(self, instrument: str) -> dict[str, Decimal]:
        return {leg: quantity for (name, leg), quantity in self._simulator.positions().items() if name == instrument}

    def _net(self, instrument: str) -> Decimal:
        return sum(self._held(instrument).values(), Decimal(0))

    def _reducing_side(self, instrument: str) -> Side:
        """The side against the holding, so that nothing grows for ever."""
        net = self._net(instrument)
        return self._side() if not net else Side.SELL if net > 0 else Side.BUY

    def _some_leg(self) -> tuple[str, str, Decimal] | None:
        held = sorted(self._simulator.positions().items())
        ours = [(name, leg, quantity) for (name, leg), quantity in held if name in self._instruments]
        return self._random.choice(ours) if ours else None

    def _instrument(self) -> str:
        return self._random.choice(self._instruments)

    def _side(self) -> Side:
        return self._random.choice((Side.BUY, Side.SELL))

    def _quantity(self) -> Decimal:
        return self._lot * self._random.randint(1, _LARGEST_LEG_LOTS)

    def _name(self) -> str:
        self._orders += 1
        return f"demo-{self._orders}"
