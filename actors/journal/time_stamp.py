"""Time stamps by a server outside (RFC 3161) over signed heads: asked for, read back, and verified without a network.

What is stamped is the whole signed note. An answer counts only once it was verified against the pinned roots: a server
may answer with something that nobody will be able to verify later. Certificates are judged at the stamp's own time.
rfc3161-client 1.0.9 reads no answer whose certificates do not stand in DER's order, and one with the signer's.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509

if TYPE_CHECKING:
    from rfc3161_client import TimeStampResponse

TIMEOUT_S: Final = 10.0
_MOST: Final = 1 << 20
_GRANTED: Final = frozenset({0, 1})
"""RFC 3161, 2.4.2: granted, and granted with changes."""


class StampError(Exception):
    """There is no time stamp, or it does not prove what it should; the message says which."""


def ask_for_stamp(url: str, note: str, roots: Path) -> bytes:
    """A time stamp over a signed note, as the server answered it in DER, verified; raises :class:`StampError`."""
    from rfc3161_client import TimestampRequestBuilder

    request = TimestampRequestBuilder().data(note.encode()).nonce(nonce=True).cert_request(cert_request=True).build()
    question = urllib.request.Request(  # noqa: S310 - the configuration allows http and https alone
        url, request.as_bytes(), {"Content-Type": "application/timestamp-query"}
    )
    try:
        with urllib.request.urlopen(question, timeout=TIMEOUT_S) as answer:  # noqa: S310 - as above
            stamp: bytes = answer.read(_MOST)
    except (OSError, ValueError) as error:
        found = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        raise StampError(f"the time-stamp server did not answer: {found}") from None
    if _decoded(stamp).tst_info.nonce != request.nonce:
        raise StampError("the time-stamp server answered another request")
    verified_time(stamp, note, roots)
    return stamp


def verified_time(stamp: bytes, note: str, roots: Path) -> datetime:
    """When a note existed, by a time stamp that leads to one of the pinned roots; raises :class:`StampError`."""
    from rfc3161_client import VerificationError, VerifierBuilder

    try:
        pinned = x509.load_pem_x509_certificates(roots.read_bytes())
    except (OSError, ValueError) as error:
        raise StampError(f"the roots in {roots} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    response = _decoded(stamp)
    builder = VerifierBuilder()
    for root in pinned:
        builder = builder.add_root_certificate(root)
    try:
        builder.build().verify_message(response, note.encode())
    except VerificationError as error:
        raise StampError(f"the time stamp does not hold: {error}") from None
    return response.tst_info.gen_time.astimezone(UTC)


def claimed_time(stamp: bytes) -> datetime:
    """When a time stamp says that it was made, not verified; raises :class:`StampError`."""
    return _decoded(stamp).tst_info.gen_time.astimezone(UTC)


def _decoded(stamp: bytes) -> TimeStampResponse:
    from rfc3161_client import decode_timestamp_response

    try:
        found = decode_timestamp_response(stamp)
        refusal = None if found.status in _GRANTED else "; ".join(found.status_string) or f"status {found.status}"
        if refusal is None:
            _ = found.tst_info  # raises where a stamp that was granted is not in it
    except ValueError as error:
        raise StampError(f"the time stamp cannot be read: {error}") from None
    if refusal is not None:
        raise StampError(f"the time-stamp server refused: {refusal}")
    return found
