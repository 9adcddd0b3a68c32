"""The history of each child: every change of its state, and the event that caused it. It answers why an actor was
restarted.

The law of this module: a step is written where the state is set, so that no transition is left out; the newest
:data:`STEPS_KEPT` steps of each child are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from brokers.frozen import dataclass
from supervisor.tree.model import (
    Absent,
    Backoff,
    Child,
    ChildKey,
    DesiredChanged,
    Discovered,
    Ended,
    Ending,
    Event,
    InQuarantine,
    NodesSeen,
    OperatorRestart,
    Pending,
    Remembered,
    Roll,
    Starting,
    State,
    Up,
)

STEPS_KEPT = 50
STATE_NAMES: Mapping[type, str] = {
    Absent: "WAITING",
    Starting: "STARTING",
    Up: "UP",
    Ending: "STOPPING",
    Backoff: "RESTARTING",
    InQuarantine: "QUARANTINED",
    Pending: "PENDING",
}
"""The states as operators know them."""
_BECAUSE: Mapping[type, str] = {
    DesiredChanged: "what is to run has changed",
    Discovered: "it was found running",
    OperatorRestart: "an operator restarts it",
    NodesSeen: "the nodes of the cluster have changed",
    Remembered: "an earlier supervisor left it so",
    Ended: "its process is gone",
    Roll: "it is to run another version",
}
"""Why a state changed, where no reason is given and its name alone does not say it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One change of a child's state, at ``at_s`` of the tree's clock: both states (``None`` is no child), the kind of
    the event that caused it, and the reason where there is one."""

    at_s: float
    before: type | None
    after: type | None
    event: type
    reason: str | None

    def __str__(self) -> str:
        """``UP → RESTARTING: its process has ended``."""
        if self.before is None:
            words = STATE_NAMES[self.after] if self.after is not None else "gone"
        else:
            words = f"{STATE_NAMES[self.before]} → {'gone' if self.after is None else STATE_NAMES[self.after]}"
        why = self.reason or _BECAUSE.get(self.event)
        return f"{words}: {why}" if why else words


class Children(dict[ChildKey, Child]):
    """The children of a tree, with the history of each. ``event`` and ``now_s`` are of the event being handled."""

    def __init__(self) -> None:
        super().__init__()
        self.event: Event | None = None
        self.now_s = 0.0
        self._stories: dict[ChildKey, deque[Step]] = {}

    def __setitem__(self, key: ChildKey, child: Child) -> None:
        before = self.get(key)
        super().__setitem__(key, child)
        if before is None or type(before.state) is not type(child.state):
            self._write(key, None if before is None else before.state, child.state)

    def __delitem__(self, key: ChildKey) -> None:
        before = self[key]
        super().__delitem__(key)
        self._write(key, before.state, None)

    def story(self, key: ChildKey) -> tuple[Step, ...]:
        """The history of a child, oldest first, also after it is gone. Empty for an unknown one."""
        return tuple(self._stories.get(key, ()))

    @property
    def stories(self) -> Mapping[ChildKey, deque[Step]]:
        """The histories of all children."""
        return self._stories

    def _write(self, key: ChildKey, before: State | None, after: State | None) -> None:
        reason = None if isinstance(after, Starting | Up) else getattr(self.event, "reason", None)
        match after:
            case Backoff(reason=words) | InQuarantine(reason=words) | Pending(reason=words):
                reason = words
            case Ending(death=words) if words is not None:
                reason = words
        left, entered = (None if state is None else type(state) for state in (before, after))
        step = Step(self.now_s, left, entered, type(self.event), reason)
        self._stories.setdefault(key, deque(maxlen=STEPS_KEPT)).append(step)
