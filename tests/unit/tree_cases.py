"""What the tests of the tree share: a few children, and a world that carries its commands out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from supervisor.tree.model import (
    AUDIT,
    Begin,
    ChildKey,
    ChildSpec,
    Command,
    DesiredChanged,
    Died,
    Discovered,
    Ended,
    Event,
    Kill,
    Kind,
    Probe,
    ProbeAnswered,
    Start,
    Started,
    Stop,
    TreePolicy,
)
from supervisor.tree.restart import RestartPolicy
from supervisor.tree.tree import Tree

POLICY = TreePolicy(
    RestartPolicy(intensity=2, period_s=60, backoff_min_s=1, backoff_max_s=8, jitter=0),
    wave_size=3,
    probe_period_s=1,
    start_timeout_s=30,
    stop_timeout_s=5,
)


def account(name: str) -> ChildKey:
    return ChildKey(Kind.ACCOUNT, name)


def instrument(name: str) -> ChildKey:
    return ChildKey(Kind.INSTRUMENT, name)


def spec(key: ChildKey, fingerprint: str = "") -> ChildSpec:
    return ChildSpec(key, interval_s=5, timeout_s=2, fingerprint=fingerprint)  # hung after 17 s


FX, CFD = account("fx"), account("cfd")
GBP, EUR, XAU = instrument("fx/GBP_JPY"), instrument("fx/EUR_USD"), instrument("cfd/XAUUSD")
ALL = (AUDIT, FX, CFD, GBP, EUR, XAU)
SPECS = tuple(map(spec, ALL))

C = TypeVar("C", bound=Command)


class World:
    """Drives a tree as the supervisor's loop does, with actors that do what a test says."""

    def __init__(
        self, policy: TreePolicy = POLICY, program: str = "", uniform: Callable[[], float] = lambda: 0.5
    ) -> None:
        self.tree = Tree(policy, uniform, program)
        self.now_s = 1000.0
        self.log: list[Command] = []

    def send(self, event: Event, after_s: float = 0.0) -> list[Command]:
        self.now_s += after_s
        commands = self.tree.handle(event, self.now_s)
        assert self.tree.validate() == []
        self.log += commands
        return commands

    def up(self, *, desired: tuple[ChildSpec, ...] = SPECS) -> World:
        """Everything started, nothing left to answer."""
        self.settle([*self.send(Discovered(())), *self.send(DesiredChanged(desired))])
        return self

    def settle(self, commands: list[Command]) -> None:
        """Answer every command as a healthy actor would, and so on until there is none."""
        while commands:
            command = commands.pop(0)
            match command:
                case Start(ChildSpec(key), attempt, waiting=False) | Begin(key, attempt):
                    commands += self.send(Started(key, attempt))
                case Stop(key, attempt) | Kill(key, attempt):
                    commands += self.send(Ended(key, attempt))
                case Probe(key, attempt):
                    commands += self.send(ProbeAnswered(key, attempt, 0.0))

    def attempt(self, key: ChildKey) -> int:
        return self.tree.children[key].attempt

    def die(self, key: ChildKey, after_s: float = 0.0) -> list[Command]:
        return self.send(Died(key, self.attempt(key), "killed"), after_s)

    def answer(self, key: ChildKey, age_s: float | None, *, after_s: float = 0.0, due: bool = True) -> list[Command]:
        return self.send(ProbeAnswered(key, self.attempt(key), age_s, due), after_s)

    def logged(self, kind: type[C]) -> list[C]:
        return [command for command in self.log if isinstance(command, kind)]

    @property
    def states(self) -> dict[str, str]:
        return {key.name: type(child.state).__name__ for key, child in self.tree.children.items()}


def started(commands: list[Command]) -> list[str]:
    return [command.spec.key.name for command in commands if isinstance(command, Start)]


def begun(commands: list[Command]) -> list[str]:
    return [command.key.name for command in commands if isinstance(command, Begin)] + [
        command.spec.key.name for command in commands if isinstance(command, Start) and not command.waiting
    ]


def stopped(commands: list[Command]) -> list[str]:
    return [command.key.name for command in commands if isinstance(command, Stop)]
