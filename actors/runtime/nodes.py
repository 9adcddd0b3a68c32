"""The nodes of a cluster, and which of them may run an actor. Pure.

A node has labels (``zone: a``) that it was started with. A place names some labels, and contains every node that has
all of them; the empty place contains every node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from brokers.frozen import dataclass

Place = tuple[tuple[str, str], ...]
"""Labels with their values, sorted; hashable, and the same text in every process."""

EVERYWHERE: Place = ()
OF_ONE_NODE = "ray.io/node-id"
"""The label that Ray gives each node: it adds nothing to the node's name."""


@dataclass(frozen=True, slots=True)
class Node:
    """A machine that can run actors: its ``name`` is unique in the cluster and never reused, its ``address`` is for
    people. While it is ``draining``, its actors go on, nothing more starts on it, and it is about to end. The
    cluster's ``head`` keeps what is known of all its nodes."""

    name: str
    labels: Place = EVERYWHERE
    address: str = ""
    draining: bool = False
    head: bool = False

    def is_in(self, place: Place) -> bool:
        """Whether it has every label of a place."""
        return set(place) <= set(self.labels)

    @property
    def shown(self) -> dict[str, str]:
        """Its labels, without Ray's own."""
        return {label: value for label, value in self.labels if label != OF_ONE_NODE}

    def __str__(self) -> str:
        return f"{self.address or self.name} ({self.words})"

    @property
    def words(self) -> str:
        """Its labels, and whether it is about to go."""
        return (labels_words(self.shown.items()) or "no labels") + (", being drained" if self.draining else "")


@dataclass(frozen=True, slots=True)
class Nodes:
    """A cluster's report of its nodes: the living ones, and those that it reports as lost itself. A node that it does
    not mention is neither."""

    living: tuple[Node, ...]
    lost: tuple[Node, ...] = ()


def place_of(labels: Mapping[str, str] | None) -> Place:
    """The place that some labels name."""
    return tuple(sorted((labels or {}).items()))


def labels_words(labels: Iterable[tuple[str, str]]) -> str:
    """``rack=7, zone=a``."""
    return ", ".join(f"{label}={value}" for label, value in labels)


def nowhere(place: Place, nodes: Iterable[Node]) -> str | None:
    """Why no node can place an actor of this place, with what to do; ``None`` where one can."""
    found = tuple(nodes)
    if any(node.is_in(place) and not node.draining for node in found):
        return None
    wanted = labels_words(place) or "anything"
    has = "; ".join(sorted({one.words for one in found}))
    there = f"the cluster's nodes have {has}" if found else "the cluster has no node"
    labels = ",".join(f"{label}={value}" for label, value in place)
    how = f"Start one with: ray start --address=HOST:PORT --labels={labels}, or change place" if place else "Start one"
    return f"no node has {wanted}: {there}. {how}"
