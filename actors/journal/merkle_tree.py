"""The Merkle tree over the records of a journal, as RFC 6962 section 2.1 and RFC 9162 section 2.1 define it. Pure.

* Leaf ``i`` (from 0) is record ``i + 1``; its data are the 32 bytes of that record's own chain hash.
* A leaf's hash is SHA-256 of ``00`` and the data, a node's SHA-256 of ``01`` and both children, an empty tree's root
  SHA-256 of nothing.
* A *perfect* node at ``level`` and ``place`` covers the 2^level leaves from ``place * 2^level`` on. It never changes
  once those leaves are there: only the nodes of the right edge do, and they are made from perfect ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""The root of a tree without leaves."""

Perfect = Callable[[int, int], bytes]
"""Gives the hash of the perfect node at a level and a place."""


class ProofError(ValueError):
    """A proof does not show what it says; the message says where it fails."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf with these data."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node with these children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def leaf_hashes(chain_hashes: Sequence[str]) -> list[bytes]:
    """The leaf hashes of records whose chain hashes, as hexadecimal text, are given."""
    sha256, data = hashlib.sha256, bytes.fromhex("00" + "00".join(chain_hashes)) if chain_hashes else b""
    # Every leaf is one piece of one run of bytes: half the time of making each by itself.
    return [sha256(data[at : at + 33]).digest() for at in range(0, len(data), 33)]


def parents(hashes: Sequence[bytes]) -> list[bytes]:
    """The nodes above an even number of neighbours."""
    sha256, data = hashlib.sha256, b"".join(hashes)
    return [sha256(b"\x01" + data[at : at + 64]).digest() for at in range(0, len(data), 64)]


def perfect_root(hashes: Sequence[bytes]) -> bytes:
    """The root over 2^n neighbours."""
    while len(hashes) > 1:
        hashes = parents(hashes)
    return hashes[0]


def perfect_parts(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """The largest perfect nodes, as level and place, that cover leaves ``begin`` to before ``end``, left to right.

    ``begin`` must be where a node of the size of all of it may begin; 0 always is.
    """
    while begin < end:
        level = (end - begin).bit_length() - 1
        yield level, begin >> level
        begin += 1 << level


def root_between(begin: int, end: int, perfect: Perfect) -> bytes:
    """The root over leaves ``begin`` to before ``end``, from perfect nodes; see :func:`perfect_parts`."""
    parts = [perfect(level, place) for level, place in perfect_parts(begin, end)]
    if not parts:
        return EMPTY_ROOT
    root = parts[-1]
    for part in reversed(parts[:-1]):
        root = node_hash(part, root)
    return root


def inclusion_path(index: int, size: int, perfect: Perfect) -> list[bytes]:
    """PATH(index, D[size]): what proves leaf ``index`` of the tree over the first ``size`` leaves, lowest first.

    Raises ``ValueError`` where that tree has no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    path: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(root_between(middle, end, perfect))
            end = middle
        else:
            path.append(root_between(begin, middle, perfect))
            begin = middle
    return path[::-1]


def consistency_path(old: int, new: int, perfect: Perfect) -> list[bytes]:
    """PROOF(old, D[new]): what proves that the tree over ``old`` leaves is the beginning of the one over ``new``.

    Raises ``ValueError`` where the one is not part of the other.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} leaves does not contain one of {old}")
    if old in (0, new):
        return []
    path: list[bytes] = []
    begin, end, whole = 0, new, True
    while end != old:
        middle = begin + _split(end - begin)
        if old <= middle:
            path.append(root_between(middle, end, perfect))
            end = middle
        else:
            path.append(root_between(begin, middle, perfect))
            begin, whole = middle, False
    if not whole:
        path.append(root_between(begin, end, perfect))
    return path[::-1]


def _split(size: int) -> int:
    """The largest power of two below ``size``."""
    return 1 << (size - 1).bit_length() - 1


def root_of_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes:
    """The root that a leaf's hash and its path lead to (RFC 9162, 2.1.3.2); raises :class:`ProofError`."""
    if not 0 <= index < size:
        raise ProofError(f"a tree of {size} leaves has no leaf {index}")
    node, last, root = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise ProofError("the path is too long for a tree of this size")
        if node & 1 or node == last:
            root = node_hash(sibling, root)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        node, last = node >> 1, last >> 1
    if last:
        raise ProofError("the path is too short for a tree of this size")
    return root


def check_consistency(old: int, old_root: bytes, new: int, new_root: bytes, path: Sequence[bytes]) -> None:
    """That the tree with ``old_root`` is the beginning of the one with ``new_root`` (RFC 9162, 2.1.4.2); raises
    :class:`ProofError`."""
    if old > new:
        raise ProofError(f"a tree of {new} leaves does not contain one of {old}")
    if old in (0, new):
        if path or old_root != (EMPTY_ROOT if old == 0 else new_root):
            raise ProofError("the trees have one size and two roots" if old == new else "the empty tree is another")
        return
    if not path:
        raise ProofError("the path is empty")
    rest = iter([old_root, *path] if old & (old - 1) == 0 else path)
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    first = second = next(rest)
    for sibling in rest:
        if last == 0:
            raise ProofError("the path is too long for trees of these sizes")
        if node & 1 or node == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        node, last = node >> 1, last >> 1
    if last:
        raise ProofError("the path is too short for trees of these sizes")
    if first != old_root:
        raise ProofError("the path does not lead to the older root: what it covered was changed since")
    if second != new_root:
        raise ProofError("the path does not lead to the newer root")
