"""Ray's exceptions, as ours, by what they mean. See the laws of :mod:`actors.runtime.ray_backend`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from ray.exceptions import ActorDiedError, GetTimeoutError, RayError, RayTaskError

from actors.runtime.local_calls import Late, NotReached
from actors.runtime.ports import ActorUnavailable, CallTimeout


class NoSuchActor(Exception):
    """Nobody of that name lives, alone or in a cell."""

    def __str__(self) -> str:
        return "its process has ended"


@contextlib.asynccontextmanager
async def within(timeout_s: float) -> AsyncIterator[None]:
    """Bounds what is awaited in it. Raises :class:`Late`."""
    try:
        async with asyncio.timeout(timeout_s) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise Late from None


@contextlib.contextmanager
def translated(
    actor: str,
    method: str,
    late: str,
    places: dict[str, Any] | None = None,
    *,
    besides: type[Exception] | tuple[type[Exception], ...] = (),
    where: str = "",
) -> Iterator[None]:
    """Translates Ray's exceptions of a call into ours: see the laws of this module. ``late`` is the message of a
    time-out; ``where`` begins the message about an actor that was not reached, whose place is forgotten. ``besides``
    are further exceptions that mean this."""
    try:
        yield
    except RayTaskError as error:
        # First: a method's exception also has its own type, and its ValueError does not come from Ray.
        raise _cause(error) from None
    except (GetTimeoutError, Late):
        # No other TimeoutError: one that a signal raised here is the program's own, such as the limit of a cell.
        raise CallTimeout(actor, method, late) from None
    except ActorUnavailable:
        _forget(actor, places)  # it has left its cell
        raise
    except (RayError, NoSuchActor, NotReached) as error:
        _forget(actor, places)
        raise ActorUnavailable(actor, method, where + short(error)) from None
    except besides as error:
        raise ActorUnavailable(actor, method, where + short(error)) from None


def _forget(actor: str, places: dict[str, Any] | None) -> None:
    if places is not None:
        places.pop(actor, None)


def _cause(error: RayTaskError) -> BaseException:
    """What the method raised, in its own type."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else RuntimeError(short(error))


def short(error: BaseException) -> str:
    """What an error says, in one line."""
    if isinstance(error, ActorDiedError):
        return "its process has ended"
    if isinstance(error, ValueError) and "look up actor" in str(error):
        return "its process has ended"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
