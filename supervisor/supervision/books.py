"""What our books hold, by the journal alone: for accounts that manage all their instruments."""

from __future__ import annotations

from loguru import logger

from actors.book.checkpoint import replay
from actors.journal import client
from actors.journal.types import JournalError
from actors.names import AUDIT, split_name
from actors.runtime.ports import CallError, Runtime

AWAY = (CallError, JournalError, client.JournalAway)
"""What reading the journal may raise."""


async def held_in_our_books(account: str, runtime: Runtime) -> set[str]:
    """The instruments for which our books of an account hold anything. The broker may no longer report them. Raises
    :data:`AWAY`."""
    held = set()
    await client.settle(runtime)
    for name in await runtime.call(AUDIT, "streams", timeout_s=client.JOURNAL_TIMEOUT_S):
        of, symbol = split_name(name)
        if of == account and symbol:
            book = replay(of, symbol, (await client.load(runtime, name)).records)
            if book.legs or book.breaks or any(book.open_orders()):
                held.add(symbol)
    return held


async def known_to_be_held(account: str, runtime: Runtime) -> set[str]:
    """The same with a single attempt: empty where the journal does not answer."""
    try:
        return await held_in_our_books(account, runtime)
    except AWAY as error:
        logger.warning("{}: which books exist is unknown: {}", account, error)  # each verdict reports it too
        return set()
