"""``simulate``: a broker simulator on its own, to try the rest of the system, or another program, against."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Sequence
from types import FrameType

from brokers.registry import DEMONSTRATION_ACCOUNT_ID, KINDS, Kind
from brokers.simulators.base import Simulator
from brokers.simulators.demonstration import Demonstration
from brokers.spec import DEMONSTRATION_VALUE
from supervisor.cli.console import Failure
from supervisor.presentation.json_contract import EXIT_OK

DEMONSTRATION_LOGIN = 5001
DEMONSTRATION_USER_ID = "AB1234"


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
    """Serve on loopback until SIGINT or SIGTERM. Raises :class:`Failure` for options that do not fit the broker."""
    kind = KINDS.get(broker)
    if kind is None:
        raise Failure(f"there is no simulator for broker {broker!r} in this version. There are: {', '.join(KINDS)}")
    symbols = tuple(instruments) or kind.instruments
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
        _serve(simulator, kind, symbols, stop, still=still)
    finally:
        simulator.close()
    return EXIT_OK


def _simulator(
    broker: str, symbols: Sequence[str], token: str | None, account_id: str | None, login: int | None
) -> tuple[Simulator, dict[str, str]]:
    """The simulator, and the configuration keys that it accepts."""
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
    if broker == "ib":
        if login is not None or token is not None:
            raise Failure("--login and --token are not for ib, which takes --account-id")
        from brokers.simulators.ib import IbSimulator

        chosen = account_id or "DU1"
        return IbSimulator(chosen, instruments=symbols), {"client_id": "17", "account_id": chosen}
    if login is not None:
        raise Failure("--login is for mt5; kite takes --account-id (its user_id) and --token")
    from brokers.simulators.kite import KiteSimulator

    user, secret = account_id or DEMONSTRATION_USER_ID, token or DEMONSTRATION_VALUE
    kite = KiteSimulator(DEMONSTRATION_VALUE, secret, user, instruments=symbols)
    keys = {"api_key": DEMONSTRATION_VALUE, "access_token": secret, "user_id": user, "stream_url": kite.start_ticker()}
    return kite, keys


def _start(simulator: Simulator, port: int) -> str:
    try:
        return simulator.start(port)
    except (OSError, OverflowError) as error:  # zmq.ZMQError is an OSError
        raise Failure(f"cannot serve on 127.0.0.1:{port}: {error}. Choose another --port, or 0 for any") from None
    except Exception as error:
        if type(error).__module__.startswith("zmq"):
            raise Failure(f"cannot serve on 127.0.0.1:{port}: {error}. Choose another --port, or 0 for any") from None
        raise


def _serve(simulator: Simulator, kind: Kind, symbols: Sequence[str], stop: threading.Event, *, still: bool) -> None:
    demonstration = Demonstration(
        simulator,
        symbols,
        kind.conventions.legs,
        random.Random(),  # noqa: S311 - the next step of a demonstration is no secret
        lot=kind.lot,
    )
    if not still:
        demonstration.start()
    try:
        stop.wait()
    finally:
        demonstration.close()


def _snippet(broker: str, address: str, keys: dict[str, str], symbols: Sequence[str]) -> str:
    endpoint = "endpoint" if broker == "mt5" else "rest_url"
    where = [f"    {endpoint}: {address}"]
    if broker == "ib":
        host, _, port = address.rpartition(":")
        where = [f"    host: {host}", f"    port: {port}"]
    lines = [
        f"# {broker} simulator at {address}, Ctrl-C ends it. For a configuration:",
        "accounts:",
        f"  - name: {broker}",
        f"    broker: {broker}",
        *(f"    {key}: {value}" for key, value in keys.items()),
        *where,
        "    instruments: [" + ", ".join(f'"{symbol}"' for symbol in symbols) + "]",
    ]
    return "\n".join(lines)
