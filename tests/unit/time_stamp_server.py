"""A real time-stamp server on loopback: openssl's `ts` behind one address, with a root and a signer of its own."""

from __future__ import annotations

import contextlib
import http.server
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

_CONFIG = """
[tsa]
default_tsa = one
[one]
serial = {0}/serial
signer_cert = {0}/tsa.pem
signer_key = {0}/tsa.key
default_policy = 1.2.3.4.1
digests = sha256, sha512
signer_digest = sha256
accuracy = secs:1
ess_cert_id_chain = no
ess_cert_id_alg = sha256
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[stamps]
basicConstraints = CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
authorityKeyIdentifier = keyid
"""


def _openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=directory)  # noqa: S607 - as installed


def make_authority(directory: Path) -> Path:
    """A root and a signer that it vouches for; gives the root's PEM file."""
    (directory / "ts.cnf").write_text(_CONFIG.format(directory))
    (directory / "serial").write_text("01\n")
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    _openssl(directory, "req", "-x509", *new, "-keyout", "root.key", "-out", "root.pem", "-days", "30", "-subj",
             "/CN=a root of the tests", "-config", "ts.cnf", "-extensions", "root")  # fmt: skip
    _openssl(directory, "req", *new, "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", "/CN=a time-stamp signer",
             "-config", "ts.cnf")  # fmt: skip
    _openssl(directory, "x509", "-req", "-in", "tsa.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial",
             "-out", "tsa.pem", "-days", "30", "-extfile", "ts.cnf", "-extensions", "stamps")  # fmt: skip
    return directory / "root.pem"


def question_over(directory: Path, data: bytes, *options: str) -> bytes:
    """A request for a time stamp over these data, as openssl makes it."""
    (directory / "data").write_bytes(data)
    _openssl(directory, "ts", "-query", "-data", "data", "-cert", *(options or ("-sha256",)), "-out", "own.tsq")
    return (directory / "own.tsq").read_bytes()


def answer_to(directory: Path, question: bytes) -> bytes:
    """What `openssl ts -reply` answers, in DER."""
    (directory / "question.tsq").write_bytes(question)
    _openssl(directory, "ts", "-reply", "-config", "ts.cnf", "-queryfile", "question.tsq", "-out", "answer.tsr")
    return (directory / "answer.tsr").read_bytes()


@contextlib.contextmanager
def serving(directory: Path, answer: Callable[[bytes], bytes | None] | None = None) -> Iterator[str]:
    """The address of a server that answers as the authority does, or what ``answer`` gives (``None``: it hangs up)."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = self.rfile.read(int(self.headers["Content-Length"]))
            found = answer_to(directory, question) if answer is None else answer(question)
            if found is None:
                return
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(found)))
            self.end_headers()
            self.wfile.write(found)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
