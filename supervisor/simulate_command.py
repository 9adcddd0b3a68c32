"""``simulate``: a broker simulator by itself, to try the rest of the system, or another program, against."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Sequence
from decimal import Decimal
from types import FrameType

from brokers.registry import CONVENTIONS, DEMONSTRATION_ACCOUNT_ID
from brokers.simulators.base import Simulator
from brokers.simulators.demonstration import Demonstration
from brokers.spec import DEMONSTRATION_VALUE
from supervisor.console import Failure
from supervisor.document import EXIT_OK

DEMONSTRATION_LOGIN = 5001
_INSTRUMENTS = {"oanda": ("EUR_USD", "GBP_JPY"), "mt5": ("EURUSD", "GBPUSD")}
_LOTS = {"oanda": Decimal(100), "mt5": Decimal("0.1")}


def simulate(
    broker: str,
    *,
    port: int,
    instruments: Sequence[str],
    token: str | None,
    account_id: str | None,
    login: int | None,
    still: bool,
) -> int:
    """Serve on loopback until SIGINT or SIGTERM. Raises :class:`Failure` for what does not fit the broker."""
    symbols = tuple(instruments) or _INSTRUMENTS.get(broker, ())
    stop = threading.Event()

    def asked(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    simulator, keys = _simulator(broker, symbols, token, account_id, login)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, asked)
    try:
        address = _start(simulator, port)
        print(_snippet(broker, address, keys, symbols), flush=True)
        _serve(simulator, broker, symbols, stop, still=still)
    finally:
        simulator.close()
    return EXIT_OK


def _simulator(
    broker: str, symbols: Sequence[str], token: str | None, account_id: str | None, login: int | None
) -> tuple[Simulator, dict[str, str]]:
    """The simulator, and what a configuration has to say to be let in."""
    if broker == "oanda":
        if login is not None:
            raise Failure("--login is for mt5; oanda takes --account-id and --token")
        from brokers.simulators.oanda import OandaSimulator

        chosen, secret = account_id or DEMONSTRATION_ACCOUNT_ID, token or DEMONSTRATION_VALUE
        return OandaSimulator(chosen, secret, instruments=symbols, hedging=True), {
            "account_id": chosen,
            "token": secret,
        }
    if broker == "mt5":
        if token is not None or account_id is not None:
            raise Failure("--token and --account-id are for oanda; mt5 takes --login")
        from brokers.simulators.mt5 import Mt5Simulator

        number = DEMONSTRATION_LOGIN if login is None else login
        return Mt5Simulator(login=number, instruments=symbols), {"login": str(number)}
    raise Failure(f"there is no simulator for broker {broker!r} in this version. There are: oanda, mt5")


def _start(simulator: Simulator, port: int) -> str:
    try:
        return simulator.start(port)
    except (OSError, OverflowError) as error:  # zmq.ZMQError is an OSError
        raise Failure(f"cannot serve on 127.0.0.1:{port}: {error}. Choose another --port, or 0 for any") from None
    except Exception as error:
        if type(error).__module__.startswith("zmq"):
            raise Failure(f"cannot serve on 127.0.0.1:{port}: {error}. Choose another --port, or 0 for any") from None
        raise


def _serve(simulator: Simulator, broker: str, symbols: Sequence[str], stop: threading.Event, *, still: bool) -> None:
    demonstration = Demonstration(
        simulator,
        symbols,
        CONVENTIONS[broker].legs,
        random.Random(),  # noqa: S311 - what a demonstration does next is no secret
        lot=_LOTS[broker],
    )
    if not still:
        demonstration.start()
    try:
        stop.wait()
    finally:
        demonstration.close()


def _snippet(broker: str, address: str, keys: dict[str, str], symbols: Sequence[str]) -> str:
    endpoint = "rest_url" if broker == "oanda" else "endpoint"
    lines = [
        f"# {broker} simulator at {address}, Ctrl-C ends it. For a configuration:",
        "accounts:",
        f"  - name: {broker}",
        f"    broker: {broker}",
        *(f"    {key}: {value}" for key, value in keys.items()),
        f"    {endpoint}: {address}",
        f"    instruments: [{', '.join(symbols)}]",
    ]
    return "\n".join(lines)
