"""The Merkle tree: the vectors of the reference implementation of RFC 6962, and its laws for every size."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.journal.merkle_tree import (
    EMPTY_ROOT,
    Perfect,
    ProofError,
    check_consistency,
    consistency_path,
    inclusion_path,
    leaf_hash,
    leaf_hashes,
    perfect_root,
    root_between,
    root_of_inclusion,
)

LEAVES = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
"""The eight leaves of the test data that came with the reference implementation of Certificate Transparency."""
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = [  # leaf (from 0), size, path
    (0, 1, []),
    (0, 8, [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]),
    (5, 8, [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (1, 5, [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ]),
]  # fmt: skip
CONSISTENCY = [  # older size, newer size, path
    (1, 1, []),
    (1, 8, [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]),
    (6, 8, [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]),
    (2, 5, [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ]),
]  # fmt: skip


def perfect_over(leaves: Sequence[bytes]) -> Perfect:
    return lambda level, place: perfect_root(leaves[place << level : (place + 1) << level])


def defined(data: Sequence[bytes]) -> bytes:
    """MTH(D[n]) exactly as RFC 6962 section 2.1 writes it down."""
    if not data:
        return hashlib.sha256(b"").digest()
    if len(data) == 1:
        return hashlib.sha256(b"\x00" + data[0]).digest()
    k = 1
    while k * 2 < len(data):
        k *= 2
    return hashlib.sha256(b"\x01" + defined(data[:k]) + defined(data[k:])).digest()


HASHED = [leaf_hash(data) for data in LEAVES]


class TestTheVectorsOfRfc6962:
    def test_roots_of_every_size(self) -> None:
        found = [root_between(0, size, perfect_over(HASHED)).hex() for size in range(1, 9)]
        assert found == ROOTS
        assert root_between(0, 0, perfect_over(HASHED)) == EMPTY_ROOT == hashlib.sha256(b"").digest()

    @pytest.mark.parametrize(("index", "size", "path"), INCLUSION)
    def test_inclusion(self, index: int, size: int, path: list[str]) -> None:
        found = inclusion_path(index, size, perfect_over(HASHED))
        assert [one.hex() for one in found] == path
        assert root_of_inclusion(index, size, HASHED[index], found).hex() == ROOTS[size - 1]

    @pytest.mark.parametrize(("old", "new", "path"), CONSISTENCY)
    def test_consistency(self, old: int, new: int, path: list[str]) -> None:
        found = consistency_path(old, new, perfect_over(HASHED))
        assert [one.hex() for one in found] == path
        check_consistency(old, bytes.fromhex(ROOTS[old - 1]), new, bytes.fromhex(ROOTS[new - 1]), found)


class TestItsLaws:
    @settings(deadline=None, max_examples=60)
    @given(st.integers(1, 300), st.data())
    def test_every_leaf_is_proven_and_no_other_passes_for_it(self, size: int, data: st.DataObject) -> None:
        chain = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(size)]
        leaves = leaf_hashes(chain)
        root = root_between(0, size, perfect_over(leaves))
        assert root == defined([bytes.fromhex(one) for one in chain])
        index = data.draw(st.integers(0, size - 1))
        path = inclusion_path(index, size, perfect_over(leaves))
        assert root_of_inclusion(index, size, leaves[index], path) == root
        assert root_of_inclusion(index, size, leaf_hash(b"another"), path) != root
        if path:
            with pytest.raises(ProofError):
                root_of_inclusion(index, size, leaves[index], path[:-1])
        with pytest.raises(ProofError):
            root_of_inclusion(index, size, leaves[index], [*path, path[-1] if path else root])

    @settings(deadline=None, max_examples=60)
    @given(st.integers(1, 300), st.data())
    def test_a_beginning_is_proven_and_a_changed_one_is_not(self, new: int, data: st.DataObject) -> None:
        leaves = [leaf_hash(str(number).encode()) for number in range(new)]
        old = data.draw(st.integers(0, new))
        root = root_between(0, new, perfect_over(leaves))
        old_root = root_between(0, old, perfect_over(leaves))
        path = consistency_path(old, new, perfect_over(leaves))
        check_consistency(old, old_root, new, root, path)
        if old:
            changed = list(leaves)
            changed[data.draw(st.integers(0, old - 1))] = leaf_hash(b"changed")
            with pytest.raises(ProofError):
                check_consistency(
                    old, old_root, new, root_between(0, new, perfect_over(changed)),
                    consistency_path(old, new, perfect_over(changed)),
                )  # fmt: skip
            with pytest.raises(ProofError):
                check_consistency(old, leaf_hash(b"another root"), new, root, path)

    def test_what_no_tree_can_have_is_refused(self) -> None:
        for index, size in ((0, 0), (3, 3), (-1, 3)):
            with pytest.raises(ValueError, match="has no leaf"):
                inclusion_path(index, size, perfect_over(HASHED))
            with pytest.raises(ProofError):
                root_of_inclusion(index, size, HASHED[0], [])
        with pytest.raises(ValueError, match="does not contain"):
            consistency_path(5, 4, perfect_over(HASHED))
        with pytest.raises(ProofError):
            check_consistency(5, b"", 4, b"", [])
