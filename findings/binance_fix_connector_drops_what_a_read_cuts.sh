#!/usr/bin/env bash
# binance-fix-connector: of sixty execution reports that come at once three are lost, and their ends are delivered as messages.
#
# One would guess: a message that is cut by the end of a read (4096 bytes) is put together with the next read, as TCP asks for.
# What happens: parse_server_response() keeps the beginning of the cut message, and the loop that called it throws that away
#   whenever the same read had a whole message in front of it. The end of the cut message is delivered as a message of its own, which
#   has no MsgType (35); nobody looks for the gap in MsgSeqNum (34).
# Why it matters: the fills of a sweep, or the reports of a mass cancel, come as a burst of more than 4096 bytes. The fill that was
#   lost is in no queue and no log, and the position is wrong by it; code that reads message.get(35) of each message fails besides.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check binance-fix-connector==1.2.0 simplefix==1.0.17 cryptography==50.0.2
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "binance-fix-connector simplefix cryptography".split():
    print(package, version(package))

import datetime
import logging
import os
import socket
import ssl
import threading
import time

import simplefix
from binance_fix_connector.fix_connector import BinanceFixConnector
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
now = datetime.datetime.now(datetime.timezone.utc)
certificate = (
    x509.CertificateBuilder()
    .subject_name(name)
    .issuer_name(name)
    .public_key(key.public_key())
    .serial_number(1)
    .not_valid_before(now - datetime.timedelta(days=1))
    .not_valid_after(now + datetime.timedelta(days=1))
    .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    .sign(key, hashes.SHA256())
)
with open("server.pem", "wb") as pem:
    pem.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    pem.write(certificate.public_bytes(serialization.Encoding.PEM))
os.environ["SSL_CERT_FILE"] = os.path.abspath("server.pem")


def report(number):
    message = simplefix.FixMessage()
    for tag, value in ((8, "FIX.4.4"), (35, 8), (49, "SPOT"), (56, "BOETRADE"), (34, number), (52, "20260105-09:30:00.000000")):
        message.append_pair(tag, value)
    for tag, value in ((17, 5000 + number), (11, f"rebalance-{number:03d}"), (37, 7000 + number), (150, "F"), (39, 2), (55, "BTCUSDT")):
        message.append_pair(tag, value)
    for tag, value in ((54, 1), (38, "0.01000000"), (44, "95000.00000000"), (32, "0.01000000"), (31, "95000.00000000"), (14, "0.01000000")):
        message.append_pair(tag, value)
    return message.encode()


burst = b"".join(report(number) for number in range(1, 61))


def exchange():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain("server.pem")
    with context.wrap_socket(listener.accept()[0], server_side=True) as client:
        client.sendall(burst)
        client.recv(1)


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=exchange, daemon=True).start()
connector = BinanceFixConnector(f"tcp+tls://localhost:{listener.getsockname()[1]}", "key", ed25519.Ed25519PrivateKey.generate(), "BOETRADE")
connector.logger.setLevel(logging.CRITICAL)
connector.connect()
received = []
until = time.monotonic() + 20
while time.monotonic() < until and not any(message.get(11) == b"rebalance-060" for message in received):
    received += connector.get_all_new_messages_received()
    time.sleep(0.01)
connector.disconnect()

numbers = [int(message.get(34)) for message in received if message.get(35) == b"8" and message.get(34)]
lost = sorted(set(range(1, 61)) - set(numbers))
others = [message for message in received if message.get(35) != b"8"]
print("sent 60 reports in one burst of", len(burst), "bytes | delivered", len(numbers), "| lost", lost)
print("messages that nobody sent:", *(str(message) for message in others), sep="\n  ")
assert len(burst) == 13191 and lost == [19, 38, 56] and len(numbers) == 57
assert len(others) == 3 and all(message.get(35) is None for message in others) and others[1].get(11) == b"rebalance-038"
print("as stated")
PY
