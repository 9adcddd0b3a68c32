#!/usr/bin/env bash
# PostgreSQL 16.2 (pgserver 0.1.4) with psycopg 3.3.9: `statement_timeout` does not bound a COMMIT, and a COMMIT that is
# cancelled is reported as done.
#
# With `synchronous_standby_names` set and no standby there, a COMMIT waits. The server switches its timer off before it
# commits, so that the session's statement_timeout of 0.5 s passes without an effect and the client waits for as long as
# the standby stays away; `transaction_timeout` (17) and `lock_timeout` do not help either. pg_cancel_backend() ends the
# wait, but the client then gets an ordinary success: `commit()` returns, and only a notice (WARNING, SQLSTATE 01000)
# says that the transaction is on one server's disk alone. The row is visible to everybody, also to whoever reads it to
# find out whether the commit was done, and is lost when the standby is promoted.
#
# Who trusts a commit to be on the standby has to bound the wait at the client, to listen for that notice, and to make a
# commit of its own (which waits for all before it) before it believes what it reads after a wait that it gave up.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 711 "$work"
cd "$work"

python3 -m venv env
env/bin/pip install -q --disable-pip-version-check pgserver==0.1.4 'psycopg[binary]==3.3.9' 2> pip.txt || { cat pip.txt; exit 1; }

cat > waits.py <<'PY'
import sys
import threading
import time

import pgserver
import psycopg

server = pgserver.get_server(sys.argv[1])
uri = server.get_uri()
try:
    with psycopg.connect(uri, autocommit=True) as admin:
        admin.execute("CREATE TABLE rows (id int)")
        admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        admin.execute("SELECT pg_reload_conf()")
        client = psycopg.connect(uri, options="-c statement_timeout=500")
        notices = []
        client.add_notice_handler(lambda said: notices.append((said.severity_nonlocalized, said.sqlstate)))
        client.execute("INSERT INTO rows VALUES (1)")
        result = []

        def commit():
            began = time.monotonic()
            try:
                client.commit()
                result.append(("success", time.monotonic() - began))
            except psycopg.Error as error:
                result.append((type(error).__name__, time.monotonic() - began))

        thread = threading.Thread(target=commit)
        thread.start()
        thread.join(4)
        waited = thread.is_alive()
        seen_before = admin.execute("SELECT count(*) FROM rows").fetchone()[0]
        admin.execute("SELECT pg_cancel_backend(%s)", (client.info.backend_pid,))
        thread.join(10)
        seen_after = admin.execute("SELECT count(*) FROM rows").fetchone()[0]
        print(f"server {admin.info.server_version}, psycopg {psycopg.__version__}")
        print(f"with statement_timeout 0.5 s the commit waits after 4 s: {waited}")
        print(f"cancelled, commit() ends in {result[0][0]}, with notices {notices}")
        print(f"rows seen by others: {seen_before} before, {seen_after} after")
        if not waited or result[0][0] != "success" or ("WARNING", "01000") not in notices or (seen_before, seen_after) != (0, 1):
            sys.exit("this has changed")
finally:
    server.cleanup()
PY
env/bin/python waits.py "$work/data"
