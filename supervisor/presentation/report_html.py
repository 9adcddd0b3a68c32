"""A report as one HTML page: no script, no network, every outside text escaped. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from supervisor.presentation.breaks import age_words

_STYLE = """
:root{color-scheme:light dark}body{font:14px/1.45 system-ui,sans-serif;max-width:75rem;margin:1rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:.5rem 0}th,td{border-bottom:1px solid #8884;padding:.2rem .6rem;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:1.6rem}
.CRITICAL,.bad{font-weight:bold;text-decoration:underline}code{overflow-wrap:anywhere}svg{max-width:100%}
@media print{body{max-width:none}}
"""
_WIDTH, _BAR = 720, 10


def page(document: Mapping[str, Any]) -> str:
    """The page, with the same content as the document."""
    breaks = document["breaks"]
    title = f"Reconciliation, {document['since'][:16]}Z to {document['until'][:16]}Z"
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>",
        _journal(document["journal"]),
        "<h2>Books and their proofs</h2>",
        _timeline(document),
        _table(
            ("account", "instrument", "proofs", "orders only", "last proof", "longest without", "not verified for"),
            (
                (
                    row["account"],
                    row["instrument"],
                    row["proofs"],
                    row["orders_only"],
                    (row["last_proof_at"] or "never")[:19],
                    age_words(row["longest_without_proof_s"]),
                    age_words(row["not_verified_s"]),
                )
                for row in document["instruments"]
            ),
        ),
        _orders_only(document["instruments"]),
        f"<h2>Breaks</h2><p>{breaks['total']} in all, {breaks['open']} open at the end.</p>",
        _bars(breaks["by_hour"], "opened, by hour"),
        *(_counts(name.replace("_", " "), breaks[name]) for name in ("by_type", "by_cause", "by_severity", "by_age")),
        _break_table(breaks["rows"]),
        "<h2>Corrections</h2>",
        _table(
            ("time", "where", "what", "book", "broker", "correction", "approved by"),
            (
                (
                    (row["ended_at"] or "")[:19],
                    _where(row),
                    f"{row['type']} {row['key']}",
                    row["book_value"],
                    row["broker_value"],
                    row["correction"],
                    row["approved_by"],
                )
                for row in document["corrections"]
            ),
        ),
        "<h2>Who did what</h2>",
        _table(
            ("time", "record", "by", "where", "what"),
            ((row["time"][:19], row["seq"], row["by"], row["where"], row["text"]) for row in document["acts"]),
        ),
        "<h2>The system itself</h2>",
        *(_counts(name.replace("_", " "), document[name]) for name in ("restarts", "quarantines", "clock_steps")),
        _table(
            ("account", "outages", "in all", "last reason"),
            (
                (name, row["outages"], age_words(row["seconds"]), row["last_reason"])
                for name, row in document["connections"].items()
            ),
        ),
        _latency(document.get("latency")),
        _table(
            ("alert route", "delivered", "failures"),
            ((name, row["delivered"], row["failed"]) for name, row in document["alerts"].items()),
        ),
        "</body></html>\n",
    ]
    return "".join(parts)


def _journal(journal: Mapping[str, Any]) -> str:
    verified = journal["verified"]
    chain = "not checked" if verified is None else ("whole" if verified else f"NOT WHOLE: {journal['reason']}")
    last = journal["last"]
    words = "no record in this time" if last is None else f"records {journal['first_seq']} to {last['seq']}"
    rows = [("records", words), ("hash chain of the journal", chain)]
    if journal.get("archived_seq") is not None:
        rows.insert(1, ("MISSING HERE", f"records 1 to {journal['archived_seq']} are in an archive"))
    if last is not None:
        rows += [("hash of the last record", last["hash"]), ("its time", last["time"])]
    if journal["head"] is not None:
        rows.append(("head of the journal when this was made", f"{journal['head']['seq']} {journal['head']['hash']}"))
    listed = "".join(
        f"<tr><th>{escape(name)}</th><td><code>{escape(str(value))}</code></td></tr>" for name, value in rows
    )
    said = (
        "Own records, each reconciled with what the broker said; whoever has a later head of this journal can check "
        "that these records are in it unaltered (<code>audit verify --head HASH</code>, <code>audit prove</code>)."
    )
    return f"<table>{listed}</table><p>{said}</p>"


def _orders_only(instruments: Sequence[Mapping[str, Any]]) -> str:
    """Explains "orders only", where any instrument has it."""
    if not any(row["orders_only"] for row in instruments):
        return ""
    return (
        "<p>Orders only: so often the orders and fills were found in step while positions were compared with nothing, "
        "as in mode paper. That proves no position.</p>"
    )


def _timeline(document: Mapping[str, Any]) -> str:
    """One line an instrument, one mark a proof."""
    from actors.events import from_iso

    span_s = max(1.0, (from_iso(document["until"]) - from_iso(document["since"])).total_seconds())
    rows = document["instruments"][:200]
    if not rows:
        return "<p>No instrument.</p>"
    marks = []
    for place, row in enumerate(rows):
        y = place * (_BAR + 4)
        name = escape(f"{row['account']}/{row['instrument']}")
        marks.append(f'<text x="0" y="{y + _BAR}" font-size="9" fill="currentColor">{name}</text>')
        marks.append(f'<rect x="160" y="{y}" width="{_WIDTH}" height="{_BAR}" fill="#8883"/>')
        marks += [
            f'<rect x="{160 + at_s}" y="{y}" width="1.5" height="{_BAR}" fill="currentColor"/>'
            for at_s in sorted({round(at / span_s * _WIDTH) for at in row["proof_times"]})
        ]
    height = len(rows) * (_BAR + 4)
    return (
        f'<svg role="img" aria-label="proofs over time" width="{170 + _WIDTH}" height="{height}">{"".join(marks)}</svg>'
    )


def _bars(counts: Mapping[str, int], words: str) -> str:
    if not counts:
        return ""
    most = max(counts.values())
    width = max(4.0, min(30.0, _WIDTH / len(counts)))
    bars = "".join(
        f'<rect x="{place * width:.1f}" y="{80 - 76 * count / most:.1f}" width="{width - 1:.1f}" '
        f'height="{76 * count / most:.1f}" fill="currentColor"><title>{escape(hour)}: {count}</title></rect>'
        for place, (hour, count) in enumerate(counts.items())
    )
    label = escape(f"{words}: at most {most}, from {next(iter(counts))}")
    return (
        f'<svg role="img" aria-label="{label}" width="{len(counts) * width:.0f}" height="82">{bars}</svg><p>{label}</p>'
    )


def _break_table(rows: Sequence[Mapping[str, Any]]) -> str:
    return _table(
        ("id", "where", "what", "severity", "cause", "book", "broker", "opened", "lasted", "how it ended"),
        (
            (
                row["id"][:12],
                _where(row),
                f"{row['type']} {row['key']}",
                row["severity"],
                row["cause"],
                row["book_value"],
                row["broker_value"],
                row["opened_at"][:19],
                age_words(row["age_s"]),
                "open" if row["ended_at"] is None else row["correction"] or "by itself",
            )
            for row in rows
        ),
    )


def _latency(latency: Mapping[str, Any] | None) -> str:
    if not latency:
        return "<p>Broker latency: no supervisor was running when this was made.</p>"
    return _table(
        ("account", "fetches", "mean seconds a fetch", "failures", "requests"),
        ((name, row["fetches"], row["mean_s"], row["errors"], row["requests"]) for name, row in latency.items()),
    )


def _counts(words: str, counts: Mapping[str, int]) -> str:
    return _table((words, "count"), counts.items()) if counts else f"<p>{escape(words)}: none</p>"


def _where(row: Mapping[str, Any]) -> str:
    return f"{row['account']}/{row['instrument']}" if row["instrument"] else str(row["account"])


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    listed = list(rows)
    if not listed:
        return f"<p>{escape(heads[0])}: none</p>"
    head = "".join(f"<th>{escape(one)}</th>" for one in heads)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in listed)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    if isinstance(value, int | float):
        return f'<td class="n">{value}</td>'
    text = "" if value is None else str(value)
    mark = ' class="CRITICAL"' if text == "CRITICAL" else ""
    return f"<td{mark}>{escape(text)}</td>"
