"""Why a call over HTTP had no answer, in words that name a wrong scheme, host or port. Pure."""

from __future__ import annotations

import http.client
import ssl
from urllib.parse import urlsplit

from urllib3.exceptions import ProxyError

from brokers.errors import BrokerError, Malformed, Unreachable
from brokers.kit.port_probe import PortAnswer, unreached

CERTIFICATE = (
    "Check the host of `rest_url` and the clock of this machine; where the certificate is of an authority of your own, "
    "name that in REQUESTS_CA_BUNDLE"
)
_DEFAULT_PORTS = {"http": 80, "https": 443}


def address_of(url: str) -> tuple[str, int]:
    """The host and the port of a URL. Raises ``ValueError`` where it has none."""
    parts = urlsplit(url)
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    if not parts.hostname or port is None:
        raise ValueError(f"{url!r} names no host of HTTP")
    return parts.hostname, port


def cause_of(error: BaseException) -> BaseException:
    """The cause that stopped a call of requests, without the layers of pools and retries around it."""
    layers = [getattr(error, "reason", None), *error.args, error.__cause__]
    inner = next((layer for layer in layers if isinstance(layer, BaseException)), None)
    return error if inner is None or isinstance(error, ProxyError) else cause_of(inner)


def no_connection(url: str, cause: BaseException) -> str:
    """The cause that stopped a call to this URL, for a person."""
    try:
        host, port = address_of(url)
    except ValueError:
        return f"no connection: {_words(cause)}"
    return f"no connection to {host}:{port}: {_words(cause)}"


def _words(cause: BaseException) -> str:
    match cause:
        case ssl.SSLCertVerificationError():
            return f"the certificate is not trusted here ({cause.verify_message})"
        case http.client.BadStatusLine() if not isinstance(cause, ConnectionError):
            return f"what answers there is no HTTP server; it began with {str(cause)[:40]!r}"
        case ssl.SSLEOFError() | ConnectionResetError() | ConnectionAbortedError() | BrokenPipeError():
            return "the connection was closed without an answer"
        case ssl.SSLError():
            return f"TLS failed ({str(cause.reason or cause).lower().replace('_', ' ')})"
        case OSError():
            return unreached(cause)
    return str(cause) or type(cause).__name__


def wants_tls(url: str, status: int, body: bytes) -> bool:
    """Whether this is a TLS server's answer to plain HTTP, as nginx and Go's server send it."""
    return url.startswith("http://") and status == 400 and b"https" in body.lower()


def tls_instead(error: BrokerError, url: str) -> Malformed:
    """The error for a TLS server that is reached without TLS."""
    host, port = address_of(url)
    found = f"a TLS server answers at {host}:{port}, and `rest_url` begins with http://"
    remedy = f"Set `rest_url` to https://{_netloc(url)}"
    return Malformed(error.attempted, error.account, found, remedy)


def explained(error: BrokerError, url: str, answer: PortAnswer) -> BrokerError:
    """The error of a call without an answer, improved by what a probe of its port found."""
    host, port = address_of(url)
    expected = "TLS" if url.startswith("https://") else "HTTP"
    ended = answer.closed and not answer.said
    if answer.unreached is not None or answer.protocol == expected or ended:
        return error
    if answer.protocol == "TLS":
        return tls_instead(error, url)
    if answer.protocol == "HTTP":
        found = f"a server without TLS answers at {host}:{port}, and `rest_url` begins with https://"
        remedy = (
            f"Correct host and port of `rest_url`; only where the network is to be trusted with the token set it to "
            f"http://{_netloc(url)}"
        )
        return Malformed(error.attempted, error.account, found, remedy)
    if answer.protocol is not None:
        found = f"something that is no HTTP server answers at {host}:{port}: {answer.words}"
        return Malformed(error.attempted, error.account, found, "Check host and port of `rest_url`")
    if answer.said and expected == "HTTP":
        return error  # the error itself shows what came; the beginning of a slow answer names nothing
    found = f"{error.found}: something listens at {host}:{port}, {answer.words}"
    return Unreachable(error.attempted, error.account, found, error.remedy)


def _netloc(url: str) -> str:
    """Host and port as the URL writes them, without a user's name and password."""
    return urlsplit(url).netloc.rpartition("@")[2]
