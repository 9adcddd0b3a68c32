"""Checks a proof about a reconciliation journal. Needs Python and the package cryptography, nothing of that program.

    python check_proof.py PROOF.json PUBLIC_KEYS [YESTERDAYS_HEADS]

PUBLIC_KEYS lists the keys you trust, one a line as NAME+ID+BASE64: a copy that you got before. YESTERDAYS_HEADS holds
signed heads from another place: one at least must be over as many records as a head of the proof, and have its root.
Ends 0 when the proof holds, and 1 with the reason when it does not. The forms: RFC 9162 section 2.1, C2SP signed-note
and tlog-checkpoint; a leaf is the record's SHA-256 over the hash before it and its canonical form.
"""

import json
import sys
from base64 import b64decode
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def need(holds, otherwise):
    if not holds:
        raise ValueError(otherwise)


def keys_in(text):
    keys = {}
    for name, key_id, encoded in (line.split("+", 2) for line in text.splitlines() if line and line[0] != "#"):
        data = b64decode(encoded)
        need(key_id == sha256(name.encode() + b"\n" + data).hexdigest()[:8] and data[0] == 1, "a key is damaged")
        keys[name, bytes.fromhex(key_id)] = Ed25519PublicKey.from_public_bytes(data[1:])
    return keys


def is_signed(note, keys):
    text, _, rest = note.partition("\n\n")
    signatures = [(name, b64decode(data)) for _, name, data in (line.split(" ") for line in rest.splitlines())]
    return [keys[n, d[:4]].verify(d[4:], (text + "\n").encode()) for n, d in signatures if (n, d[:4]) in keys] != []


def head_of(note, keys):
    need(is_signed(note, keys), "a head is not signed by a key that you trust")
    origin, size, root, _, time = note.partition("\n\n")[0].split("\n")
    return origin, int(size), b64decode(root), time


def climb(index, last, path, old=b""):
    """The root that a path leads to, and beside it the root of the older tree that begins at ``old``."""
    new, path = path[0], path[1:]
    for sibling in path:
        need(last > 0, "a path is too long")
        if index & 1 or index == last:
            new, old = (sha256(b"\1" + sibling + one).digest() for one in (new, old))
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            new = sha256(b"\1" + new + sibling).digest()
        index, last = index >> 1, last >> 1
    need(last == 0, "a path is too short")
    return new, old


def main(proof_file, key_file, heads_file=None):
    proof, keys = json.loads(Path(proof_file).read_text()), keys_in(Path(key_file).read_text())
    for note in proof["rotations"]:
        new = keys_in(note.split("\n")[1].removeprefix("new key "))
        if is_signed(note, keys) and is_signed(note, new):
            keys |= new
    origin, size, root, time = head_of(proof["head"], keys)
    roots, yours = {size: root}, set()
    if proof["older"]:
        name, old, old_root, _ = head_of(proof["older"], keys)
        need(name == origin and 0 < old <= size, "the heads do not belong together")
        level = (old & -old).bit_length() - 1 if old < size else size.bit_length()
        path = [b64decode(one) for one in proof["consistency"]]
        path = path if old & (old - 1) and old < size else [old_root, *path]
        found = climb((old - 1) >> level, (size - 1) >> level, path, path[0])
        need(found == (root, old_root), "something before the older head was changed")
        roots[old] = old_root
        print(f"nothing was changed or cut out between the heads over {old} and {size} records")
    for one in proof["records"]:
        leaf = sha256(b"\0" + sha256((one["prev_hash"] + one["record"]).encode()).digest()).digest()
        record = json.loads(one["record"])
        found, _ = climb(record["seq"] - 1, size - 1, [leaf, *map(b64decode, one["path"])])
        need(0 < record["seq"] <= size and found == root, f"record {record['seq']} was changed")
        print(json.dumps(record, indent=2), f"\nis record {record['seq']} of {size} in {origin}, {time}")
    text = Path(heads_file).read_text().replace("\n\n—", "\n\r—") if heads_file else ""
    for block in filter(str.strip, text.split("\n\n")):
        name, at, its_root, _ = head_of(block.strip("\n").replace("\n\r—", "\n\n—"), keys)
        need(name == origin and its_root == roots.get(at, its_root), f"split view: two roots over {at} records")
        yours.add(at)
        print(f"your head over {at} records", "agrees" if at in roots else "is signed; not compared")
    need(not heads_file or yours & roots.keys(), "none of your heads is compared: ask for a proof --since one of them")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:]) if len(sys.argv) in (3, 4) else sys.exit(__doc__)
    except Exception as error:
        sys.exit(f"NOT proven: {str(error) or 'a signature does not fit'}")
