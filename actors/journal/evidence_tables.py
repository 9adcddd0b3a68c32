"""What a journal keeps beside its records so that others can check them: perfect nodes of their Merkle tree, signed
heads, rotations of the key, and which heads each place has received.

* Nothing here changes a record, and the tree can be made again from the records. A journal that has none of it, as an
  earlier version wrote it, is as good as any other: its writer adds the tables, and its reader does without.
* Of the tree, the nodes over 2^8, 2^16 and 2^24 records are kept, and where records were archived in the middle of 2^8,
  the smaller nodes that stand for them. A path of any record is made from those and at most 256 records a level.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.schema import CreateTable

from actors.events import to_iso
from actors.journal.archive_anchor import read_anchor
from actors.journal.merkle_tree import leaf_hashes, node_hash, perfect_parts, perfect_root, root_between
from actors.journal.schema import corrupt, read_head, records, writing
from actors.journal.signed_head import Head, Signer, signed
from actors.journal.types import JournalUnavailable
from brokers.frozen import dataclass

_metadata = MetaData()
_Number = BigInteger().with_variant(Integer, "sqlite")
nodes = Table(
    "journal_tree",
    _metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("place", _Number, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
)
heads = Table(
    "journal_signed_heads",
    _metadata,
    Column("size", _Number, primary_key=True, autoincrement=False),
    Column("time", String, primary_key=True),
    Column("note", Text, nullable=False),
    Column("stamp", LargeBinary, nullable=True),
)
rotations = Table(
    "journal_key_rotations",
    _metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
)
deliveries = Table(
    "journal_head_deliveries",
    _metadata,
    Column("place", String, primary_key=True),
    Column("size", BigInteger, nullable=False),
)
TABLES: Final = (nodes, heads, rotations, deliveries)

READ_TREE: Final = "read the Merkle tree of the journal"
TILE_LEVEL: Final = 8
TILE: Final = 1 << TILE_LEVEL
_KEPT_LEVELS: Final = (8, 16, 24)
_TILES_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True)
class StoredHead:
    """A signed head as the journal keeps it; ``stamp`` is the time stamp over its note, where it has one."""

    size: int
    time: str
    note: str
    stamp: bytes | None = None


def has_tables(connection: Connection) -> bool:
    """Whether a writer of this version has had this journal. Begins a transaction of its own."""
    with connection.begin():
        return inspect(connection).has_table(deliveries.name)


def add_tables(connection: Connection) -> None:
    """The tables where there are none. Begins a transaction of its own."""
    if not has_tables(connection):
        with connection.begin():
            for table in TABLES:
                connection.execute(CreateTable(table, if_not_exists=True))


_CHAIN_HASHES: Final = f"SELECT hash FROM {records.name} WHERE seq > ? AND seq <= ? ORDER BY seq"  # noqa: S608 - ours

_KEEP_NODES: Final = insert(nodes)

LeavesElsewhere = Callable[[int, int], list[str]]
"""Gives the chain hashes of archived records ``first`` to ``last``."""


class Tree:
    """The tree over a journal's records, read within the present transaction.

    ``kept`` says whether there are tables to read nodes from. Leaves that were archived and are needed are asked of
    ``elsewhere``; without it :class:`JournalUnavailable` says so.
    """

    def __init__(self, connection: Connection, *, kept: bool, elsewhere: LeavesElsewhere | None = None) -> None:
        self._connection = connection
        self._kept = kept
        self._elsewhere = elsewhere
        self._cut = read_anchor(connection, READ_TREE)
        self._tiles: dict[int, list[bytes]] = {}
        self._above: dict[tuple[int, int], bytes] = {}

    def perfect(self, level: int, place: int) -> bytes:
        """The node over the 2^level leaves from ``place * 2^level`` on."""
        known = self._above.get((level, place))
        if known is None:
            known = self._above[level, place] = self.kept_node(level, place) or self._made(level, place)
        return known

    def root(self, size: int) -> bytes:
        """The root over the first ``size`` records."""
        return root_between(0, size, self.perfect)

    def _made(self, level: int, place: int) -> bytes:
        begin = place << level
        if level < TILE_LEVEL or (level == TILE_LEVEL and begin >= self._cut.seq):
            tile = self._tile(begin >> TILE_LEVEL)
            first = begin - max(begin & -TILE, self._cut.seq)
            if first >= 0:
                leaves = tile[first : first + (1 << level)]
                if len(leaves) != 1 << level:
                    end = begin + (1 << level)
                    raise corrupt(READ_TREE, f"records up to {end} are not all there")
                return perfect_root(leaves)
        if level == 0:
            return leaf_hashes(self._archived(begin + 1, begin + 1))[0]
        self._read_neighbours(level, place)
        if level == TILE_LEVEL and begin + TILE <= self._cut.seq and self._elsewhere is not None:
            return perfect_root(leaf_hashes(self._archived(begin + 1, begin + TILE)))
        return node_hash(self.perfect(level - 1, place * 2), self.perfect(level - 1, place * 2 + 1))

    def kept_node(self, level: int, place: int) -> bytes | None:
        """The node as the database has it; ``None`` where it is not kept, or nothing is."""
        small = level < TILE_LEVEL and (place + 1) << level <= self._cut.seq
        if not self._kept or not (level in _KEPT_LEVELS or small):
            return None
        found = select(nodes.c.hash).where(nodes.c.level == level, nodes.c.place == place)
        node: bytes | None = self._connection.execute(found).scalar()
        return node

    def _read_neighbours(self, level: int, place: int) -> None:
        """The kept nodes below a node, at once: they will all be asked for."""
        below = next((kept for kept in reversed(_KEPT_LEVELS) if kept < level), None)
        if not self._kept or below is None or level - below > TILE_LEVEL:
            return
        begin, end = place << (level - below), (place + 1) << (level - below)
        if (below, begin) in self._above:
            return
        found = select(nodes.c.place, nodes.c.hash).where(
            nodes.c.level == below, nodes.c.place >= begin, nodes.c.place < end
        )
        self._above |= {(below, row.place): row.hash for row in self._connection.execute(found)}

    def _tile(self, number: int) -> list[bytes]:
        """The leaf hashes of a tile, from the first that is not archived on, as far as there are records."""
        known = self._tiles.get(number)
        if known is None:
            first = max(number << TILE_LEVEL, self._cut.seq)
            known = leaf_hashes(chain_hashes(self._connection, first, (number + 1) << TILE_LEVEL))
            self._tiles[number] = known
            if len(self._tiles) > _TILES_AT_ONCE:
                del self._tiles[next(iter(self._tiles))]
        return known

    def _archived(self, first: int, last: int) -> list[str]:
        if self._elsewhere is None:
            raise JournalUnavailable(
                READ_TREE,
                f"it needs record {first}, which was archived (the newest archive is {self._cut.file})",
                "Name its archive (--archive FILE), or put it beside the journal",
            )
        return self._elsewhere(first, last)


def chain_hashes(connection: Connection, after_seq: int, last_seq: int) -> list[str]:
    """The chain hashes of the records after one and up to another, as far as there are any, without a gap."""
    wanted = select(records.c.hash).where(records.c.seq > after_seq, records.c.seq <= last_seq).order_by(records.c.seq)
    driver = connection.connection.driver_connection
    if isinstance(driver, sqlite3.Connection):
        # Straight to the driver: all that is read of a record here is one text.
        found = driver.execute(_CHAIN_HASHES, (after_seq, last_seq))
        return [text for (text,) in found.fetchall()]
    return list(connection.execute(wanted).scalars())


def grow(connection: Connection, *, elsewhere: LeavesElsewhere | None = None, tiles: int = 64) -> bool:
    """Keep the nodes over at most so many further tiles that are whole; says whether there are more of them.

    One short transaction: appends go on between two calls.
    """
    with writing(connection) as transaction:
        last_seq = read_head(connection, "grow the Merkle tree")[0]
        done = connection.execute(select(func.max(nodes.c.place)).where(nodes.c.level == TILE_LEVEL)).scalar()
        first = 0 if done is None else done + 1
        ready = last_seq >> TILE_LEVEL
        end = min(ready, first + tiles)
        if first >= end:
            transaction.rollback()
            return False
        tree = Tree(connection, kept=True, elsewhere=elsewhere)
        cut = read_anchor(connection, "grow the Merkle tree").seq
        hashes: list[str] = []
        if cut <= first << TILE_LEVEL:
            hashes = chain_hashes(connection, first << TILE_LEVEL, end << TILE_LEVEL)
            if len(hashes) != (end - first) << TILE_LEVEL:
                raise corrupt("grow the Merkle tree", f"records up to {end << TILE_LEVEL} are not all there")
        made: list[dict[str, object]] = []
        for tile in range(first, end):
            if hashes:
                at = (tile - first) << TILE_LEVEL
                root = perfect_root(leaf_hashes(hashes[at : at + TILE]))
            else:
                root = tree.perfect(TILE_LEVEL, tile)
            made.append({"level": TILE_LEVEL, "place": tile, "hash": root})
            for level in _KEPT_LEVELS[1:]:
                width = level - TILE_LEVEL
                if (tile + 1) & ((1 << width) - 1) == 0:
                    place = tile >> width
                    # Made from the nodes below, which are read where they are kept.
                    connection.execute(_KEEP_NODES, made)
                    made.clear()
                    above = Tree(connection, kept=True)
                    made.append({"level": level, "place": place, "hash": above.perfect(level, place)})
        if made:
            connection.execute(_KEEP_NODES, made)
    return end < ready


def keep_for_cut(connection: Connection, cut: int) -> None:
    """Keep the nodes that stand for the records before a cut in the middle of a tile, within the present transaction
    and before those records go."""
    begin = cut & -TILE
    tree = Tree(connection, kept=True)
    wanted = [(level, place) for level, place in perfect_parts(begin, cut)]
    for level, place in wanted:
        if level < TILE_LEVEL and tree.kept_node(level, place) is None:
            connection.execute(insert(nodes).values(level=level, place=place, hash=tree.perfect(level, place)))


def signed_head(
    connection: Connection, signers: list[Signer], origin: str, time: datetime, size: int | None = None
) -> StoredHead | None:
    """Sign where the journal ends (or ended, at ``size``), and keep that; ``None`` for an empty journal."""
    attempted = "sign the head of the journal"
    with writing(connection) as transaction:
        last_seq = read_head(connection, attempted)[0]
        size = last_seq if size is None else size
        if not size:
            transaction.rollback()
            return None
        cut = read_anchor(connection, attempted)
        chain = cut.hash if cut.seq == size else None
        if chain is None:
            chain = connection.execute(select(records.c.hash).where(records.c.seq == size)).scalar_one()
        root = Tree(connection, kept=True).root(size)
        head = Head(origin, size, root, chain, time)
        kept = StoredHead(size, to_iso(time), signed(head.text(), signers))
        connection.execute(insert(heads).values(size=kept.size, time=kept.time, note=kept.note))
    return kept


def stored_heads(connection: Connection, *, after_size: int = 0, limit: int | None = None) -> Iterator[StoredHead]:
    """The signed heads over more than ``after_size`` records, smallest first, within the present transaction."""
    chosen = select(heads).where(heads.c.size > after_size).order_by(heads.c.size, heads.c.time).limit(limit)
    for row in connection.execute(chosen):
        yield StoredHead(row.size, row.time, row.note, row.stamp)


def newest_head(connection: Connection, *, stamped: bool = False) -> StoredHead | None:
    """The newest signed head, or the newest that has a time stamp, within the present transaction."""
    chosen = select(heads).order_by(heads.c.size.desc(), heads.c.time.desc()).limit(1)
    if stamped:
        chosen = chosen.where(heads.c.stamp.is_not(None))
    row = connection.execute(chosen).one_or_none()
    return None if row is None else StoredHead(row.size, row.time, row.note, row.stamp)


def head_covering(connection: Connection, size: int, *, exactly: bool = False) -> StoredHead | None:
    """The smallest signed head over at least (or exactly) so many records, within the present transaction."""
    chosen = select(heads).where(heads.c.size == size if exactly else heads.c.size >= size)
    # One with a time stamp is the better witness where there are several of a size.
    row = connection.execute(chosen.order_by(heads.c.size, heads.c.stamp.is_(None), heads.c.time).limit(1)).first()
    return None if row is None else StoredHead(row.size, row.time, row.note, row.stamp)


def put_stamp(connection: Connection, head: StoredHead, stamp: bytes) -> None:
    """Keep a time stamp beside its head."""
    with writing(connection):
        where = (heads.c.size == head.size, heads.c.time == head.time)
        connection.execute(update(heads).where(*where).values(stamp=stamp))


def rotation_notes(connection: Connection) -> list[str]:
    """The rotations of the key, oldest first, within the present transaction."""
    return list(connection.execute(select(rotations.c.note).order_by(rotations.c.number)).scalars())


def put_rotation(connection: Connection, note: str) -> None:
    """Keep a rotation of the key."""
    with writing(connection):
        number = (connection.execute(select(func.max(rotations.c.number))).scalar() or 0) + 1
        connection.execute(insert(rotations).values(number=number, note=note))


def delivered(connection: Connection, place: str) -> int:
    """The size of the last head that a place was given, within the present transaction."""
    return connection.execute(select(deliveries.c.size).where(deliveries.c.place == place)).scalar() or 0


def put_delivered(connection: Connection, place: str, size: int) -> None:
    """Note the size of the last head that a place was given."""
    with writing(connection):
        known = connection.execute(select(deliveries.c.size).where(deliveries.c.place == place)).scalar()
        if known is None:
            connection.execute(insert(deliveries).values(place=place, size=size))
        else:
            connection.execute(update(deliveries).where(deliveries.c.place == place).values(size=size))


def rename_place(connection: Connection, before: str, name: str) -> None:
    """Name a place anew that an earlier version of the program named by its whole URL."""
    with writing(connection):
        named = connection.execute(select(deliveries.c.size).where(deliveries.c.place == name)).scalar()
        of_before = deliveries.c.place == before
        if named is None:
            connection.execute(update(deliveries).where(of_before).values(place=name))
        else:
            connection.execute(delete(deliveries).where(of_before))


def origin_of(connection: Connection) -> str | None:
    """The name that distinguishes this journal from others, from its heads, within the present transaction; ``None``
    where it has none yet."""
    first = next(stored_heads(connection, limit=1), None)
    return None if first is None else first.note.partition("\n")[0]
