"""The state of each actor, from the tree, beside the desired state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from actors.names import ALERTS, AUDIT, is_sink
from actors.runtime.ports import Runtime
from supervisor.supervision import status
from supervisor.supervision.desired import DesiredState
from supervisor.tree.model import Child, ChildKey, Kind, Up

LOOK_AGAIN_AFTER_S = 0.1
_FINAL = frozenset({"SETTLED", "QUARANTINED", "PENDING"})


class ActorStates:
    """Reports the state of actors by name. ``children`` is the tree's live view of them."""

    def __init__(self, runtime: Runtime, children: Mapping[ChildKey, Child], desired: DesiredState) -> None:
        self._runtime = runtime
        self._children = children
        self._desired = desired

    def key(self, name: str) -> ChildKey | None:
        """The child of that name, if there is one."""
        return next((key for key in self._children if key.name == name), None)

    def state(self, name: str) -> tuple[str, str]:
        """The state of an actor: one word (``ABSENT`` where there is none), and a sentence with the reason."""
        key = self.key(name)
        child = self._children[key] if key is not None else None
        return status.state_name(child.state) if child is not None else "ABSENT", status.state_words(child)

    def instruments_up(self) -> list[str]:
        """The instruments that can be called now."""
        up = (key for key, child in self._children.items() if is_up(child))
        return [key.name for key in up if key.kind is Kind.INSTRUMENT]

    async def settled(self, names: Sequence[str], timeout_s: float) -> dict[str, tuple[str, str]]:
        """Wait, for at most ``timeout_s``, until each actor is as desired or quarantined; returns the state of each."""
        until_s = self._runtime.monotonic_s() + timeout_s
        while any(self._stands(name)[0] not in _FINAL for name in names) and self._runtime.monotonic_s() < until_s:
            await self._runtime.sleep(LOOK_AGAIN_AFTER_S)
        return {name: self._stands(name) for name in names}

    def _stands(self, name: str) -> tuple[str, str]:
        key = key_of(name)
        child, spec = self._children.get(key), self._desired.spec(key)
        if child is None:
            return ("SETTLED", "it no longer runs") if spec is None else ("WAITING", status.state_words(None))
        if spec is not None and child.spec == child.running == spec and is_up(child):
            return "SETTLED", "it is up"
        return status.state_name(child.state), status.state_words(child)


def key_of(name: str) -> ChildKey:
    """The key of an actor's name, whether or not such a child exists."""
    if name == AUDIT:
        return ChildKey(Kind.AUDIT, name)
    if is_sink(name):
        return ChildKey(Kind.SINK, name)
    if name == ALERTS:
        return ChildKey(Kind.ALERTS, name)
    return ChildKey(Kind.INSTRUMENT if "/" in name else Kind.ACCOUNT, name)


def is_up(child: Child | None) -> bool:
    """Whether it lives and is neither starting nor ending."""
    return child is not None and isinstance(child.state, Up)
