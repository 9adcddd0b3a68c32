"""The signed note of another implementation: the key and the note that Go's package ``sumdb/note`` documents."""

from __future__ import annotations

import base64

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.journal.signed_head import PublicKey, Signer, signed, verified_text

PUBLISHED = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
"""PRIVATE+KEY+PeterNeumann+c74f20a3+…: the package's example, known to everybody."""
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
LINE = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"


def test_our_note_of_its_key_and_text_is_its_note_and_its_note_is_verified() -> None:
    key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(PUBLISHED)[1:])
    signer = Signer("PeterNeumann", key)
    assert signer.public.id.hex() == "c74f20a3"
    assert signed(TEXT, [signer]) == f"{TEXT}\n{LINE}"
    assert verified_text(f"{TEXT}\n{LINE}", [PublicKey.parse(str(signer.public))]) == (TEXT, signer.public)
