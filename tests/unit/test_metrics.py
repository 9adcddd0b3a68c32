"""The status document as Prometheus metrics: what is exported, under which names; nothing unknown looks healthy."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from supervisor.cli.metrics import StatusCollector
from supervisor.presentation.metrics import families

ROOT = Path(__file__).parents[2]


def instrument(symbol: str, **changes: Any) -> dict[str, Any]:
    health = {
        "cycles": 7,
        "cycles_by_status": {"SUCCESS": 6, "DEGRADED": 1},
        "corrections": 2,
        "discrepancies": 3,
        "verified_age_s": 1.5,
        "last_cycle_ms": 12.0,
        "halted": [],
        "paused": False,
    }
    row: dict[str, Any] = {"instrument": symbol, "status": "SUCCESS", "discrepancies": []}
    return row | changes | {"health": health | changes.get("health", {})}


def found(kind: str, severity: str, *, resolved: bool = False) -> dict[str, Any]:
    return {"type": kind, "severity": severity, "resolved": resolved}


def document(*rows: dict[str, Any], of_account: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    account = {
        "account": "fx",
        "broker": "oanda",
        "broker_calls": 41,
        "connection": "CONNECTED",
        "discrepancies": list(of_account),
        "health": {"stream": "LIVE"},
        "instruments": list(rows),
    }
    actors = [
        {"name": "fx", "kind": "account", "state": "UP", "restarts": 1},
        {"name": "fx/EUR_USD", "kind": "instrument", "state": "QUARANTINED", "restarts": 6},
    ]
    return {
        "accounts": [account],
        "supervisor": {
            "actors": actors,
            "self_check": {"checked": 5, "failed": 0},
            "journal": {
                "last_seq": 99,
                "error": None,
                "commits": 30,
                "failed_commits": 1,
                "append_us": 250_000,
                "waiting": 2,
            },
        },
    }


def exported(status: dict[str, Any] | None) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    registry = CollectorRegistry()
    registry.register(StatusCollector(lambda: status, lambda: 0.0))
    text = generate_latest(registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(status: dict[str, Any] | None, name: str, /, **labels: str) -> float | None:
    return exported(status).get((f"reconciliation_{name}", tuple(sorted(labels.items()))))


GBP = {"account": "fx", "instrument": "GBP_JPY"}


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("supervisor_up", {}, 1),
        ("cycles_total", GBP, 7),
        ("cycles_by_status_total", {**GBP, "status": "SUCCESS"}, 6),
        ("cycles_by_status_total", {**GBP, "status": "DEGRADED"}, 1),
        ("corrections_total", GBP, 2),
        ("verified_age_seconds", GBP, 1.5),
        ("last_cycle_seconds", GBP, 0.012),
        ("in_step", GBP, 1),
        ("broker_calls_total", {"account": "fx", "broker": "oanda"}, 41),
        ("account_connected", {"account": "fx", "broker": "oanda"}, 1),
        ("stream_live", {"account": "fx", "broker": "oanda"}, 1),
        ("actor_restarts_total", {"actor": "fx", "kind": "account"}, 1),
        ("actor_quarantined", {"actor": "fx/EUR_USD", "kind": "instrument"}, 1),
        ("journal_records_total", {}, 99),
        ("journal_up", {}, 1),
        ("journal_append_seconds_total", {}, 0.25),
        ("journal_commits_total", {}, 30),
        ("journal_commit_failures_total", {}, 1),
        ("journal_queue_depth", {}, 2),
        ("self_checks_total", {}, 5),
    ],
)
def test_what_the_status_says_is_exported(name: str, labels: dict[str, str], expected: float) -> None:
    assert value(document(instrument("GBP_JPY")), name, **labels) == expected


def test_open_breaks_are_counted_by_type_and_severity_and_resolved_ones_are_not() -> None:
    row = instrument(
        "GBP_JPY",
        status="PARTIAL",
        discrepancies=[
            found("NAKED_POSITION", "CRITICAL"),
            found("NAKED_POSITION", "CRITICAL"),
            found("PRICE_MISMATCH", "INFO", resolved=True),
        ],
    )
    status = document(row, of_account=(found("UNMANAGED_INSTRUMENT", "WARNING"),))

    assert value(status, "open_breaks", **GBP, type="NAKED_POSITION", severity="CRITICAL") == 2
    assert value(status, "open_breaks", **GBP, type="PRICE_MISMATCH", severity="INFO") is None
    unmanaged = {"account": "fx", "instrument": "", "type": "UNMANAGED_INSTRUMENT", "severity": "WARNING"}
    assert value(status, "open_breaks", **unmanaged) == 1
    assert value(status, "in_step", **GBP) == 0


def test_what_is_not_known_has_no_sample() -> None:
    never = instrument("GBP_JPY", health={"verified_age_s": None, "last_cycle_ms": None, "halted": None})
    for name in ("verified_age_seconds", "last_cycle_seconds", "trading_halted"):
        assert value(document(never), name, **GBP) is None


def test_a_supervisor_that_does_not_answer_is_one_sample() -> None:
    assert exported(None) == {("reconciliation_supervisor_up", ()): 0}


def test_many_scrapes_cost_the_supervisor_one_question_a_second() -> None:
    asked: list[None] = []
    now = [0.0]

    def ask() -> dict[str, Any]:
        asked.append(None)
        return document()

    collector = StatusCollector(ask, lambda: now[0])
    for at_s in (0.0, 0.5, 0.9, 1.1):
        now[0] = at_s
        list(collector.collect())
    assert len(asked) == 2


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\breconciliation_[a-z_]+", text))


def exported_names() -> set[str]:
    status = document(instrument("GBP_JPY", discrepancies=[found("NAKED_POSITION", "CRITICAL")]))
    by_route = {"delivered": {"desk": 1}, "failed": {"desk": 0}, "waiting": {"desk": 0}, "failing": {}}
    status["supervisor"]["alerts"] = by_route
    return {name for name, _ in exported(status)}


def test_every_panel_and_every_rule_asks_for_a_metric_that_is_exported() -> None:
    dashboard = json.loads((ROOT / "config/grafana/dashboard.json").read_text())
    rules = YAML(typ="safe").load(ROOT / "config/prometheus/alerts.yml")
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    for expression in asked:
        assert names_in(expression)
        assert names_in(expression) <= exported_names(), expression


@pytest.fixture
def served() -> Iterator[str]:
    registry = CollectorRegistry()
    status = document(instrument("GBP_JPY", discrepancies=[found("NAKED_POSITION", "CRITICAL")]))
    registry.register(StatusCollector(lambda: status, time.monotonic))
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool") or ""
needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None, reason="Prometheus is not installed (Debian: apt-get install prometheus)"
)


@needs_prometheus
def test_prometheus_own_linter_finds_nothing_to_say(served: str) -> None:
    text = urllib.request.urlopen(f"http://{served}/metrics").read()
    checked = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
    rules = subprocess.run(
        [PROMTOOL, "check", "rules", ROOT / "config/prometheus/alerts.yml"], capture_output=True, check=False
    )
    assert rules.returncode == 0, rules.stderr


@needs_prometheus
def test_a_real_prometheus_scrapes_it_and_fires_the_alert_of_a_naked_position(served: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "config/prometheus/alerts.yml", tmp_path)
    written = (ROOT / "config/prometheus/prometheus.yml").read_text()
    (tmp_path / "prometheus.yml").write_text(written.replace("127.0.0.1:9464", served).replace("5s", "200ms"))
    with subprocess.Popen(
        [
            str(PROMETHEUS),
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data",
            "--web.listen-address=127.0.0.1:0",
        ],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            address = next(
                match[1] for line in process.stderr if (match := re.search(r'Listening on".* address=([\d.:]+)', line))
            )
            fired: set[str] = set()
            deadline_s = time.monotonic() + 30
            while not {"CriticalBreak", "ActorQuarantined"} <= fired and time.monotonic() < deadline_s:
                with contextlib.suppress(urllib.error.HTTPError):  # it listens before it is ready
                    answer = json.load(urllib.request.urlopen(f"http://{address}/api/v1/alerts"))
                    fired = {one["labels"]["alertname"] for one in answer["data"]["alerts"] if one["state"] == "firing"}
                time.sleep(0.1)  # another program's evaluation; there is no event for it
        finally:
            process.kill()
    assert "CriticalBreak" in fired
    assert "ActorQuarantined" in fired
    assert "SupervisorAway" not in fired


def test_families_of_a_document_do_not_change_it() -> None:
    status = document(instrument("GBP_JPY"))
    before = json.dumps(status)
    list(families(status, 0.0))
    assert json.dumps(status) == before
