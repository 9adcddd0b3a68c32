"""What a book was, out of a proof that holds. Needs Python and the package cryptography, and check_proof.py beside it.

    python book_of_proof.py PROOF.json PUBLIC_KEYS TIME [YESTERDAYS_HEADS]

PROOF.json is what `audit prove --account A --instrument I --at TIME --since HEAD` wrote, and TIME the moment (ISO 8601,
UTC). It is checked first, as check_proof.py does. Then its records must be one stream without a gap, from its first
record or a checkpoint on, and one after TIME must show that none before it was left out. From them follows how much
each leg held; each change is shown with its cause. Ends 0 when the book is shown, and 1 with the reason when it is not.

The rules: a CHECKPOINT says the legs; POSITION_SYNCED and POSITION_RECORDED set a leg (with `moved_from`, that much
goes from one leg to another); ORDER_FILLED and FILL_RECORDED add to the legs that they name, once for each fill;
FILL_RESTATED takes back what it names under `was` first. No other record changes how much is held.
"""

import json
import sys
from contextlib import redirect_stdout
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path

import check_proof
from check_proof import need


def moment(text):
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def key_of(fill):
    return fill.get("id_scope") or "", fill["fill_id"]


def fold(legs, seen, record):
    """The quantities by leg after one more record; ``seen`` are the fills that are in them."""
    kind, said = record["type"], record["payload"]
    changes = []
    if kind == "CHECKPOINT":
        legs = {leg["leg"]: Decimal(leg["quantity"]) for leg in said["legs"]}
    elif kind in ("POSITION_SYNCED", "POSITION_RECORDED") and "moved_from" in said:
        changes = [(said["moved_from"], -Decimal(said["moved"])), (said["leg"], Decimal(said["moved"]))]
    elif kind in ("POSITION_SYNCED", "POSITION_RECORDED"):
        legs = {**legs, said["leg"]: Decimal(said["quantity"])}
    elif kind == "FILL_RESTATED":
        changes = [(leg, -Decimal(quantity)) for leg, quantity in said["was"]["legs"]] + said["legs"]
        seen.add(key_of(said))
    elif kind in ("ORDER_FILLED", "FILL_RECORDED") and key_of(said) not in seen:
        changes = said["legs"] if said.get("counted", True) else []
        seen.add(key_of(said))
    for leg, quantity in changes:
        legs = {**legs, leg: legs.get(leg, Decimal(0)) + Decimal(quantity)}
    return {leg: quantity for leg, quantity in legs.items() if quantity}


def shown(legs):
    return ", ".join(f"{leg} {quantity:f}" for leg, quantity in sorted(legs.items())) or "nothing"


def main(proof_file, key_file, time, *heads):
    with redirect_stdout(StringIO()) as words:
        check_proof.main(proof_file, key_file, *heads)
    print("\n".join(line for line in words.getvalue().splitlines() if line.startswith(("nothing was", "your head"))))
    records = [json.loads(one["record"]) for one in json.loads(Path(proof_file).read_text())["records"]]
    at = moment(time)
    need(records, "it proves no record")
    need(len({record["stream"] for record in records}) == 1, "its records are of several streams")
    versions = [record["version"] for record in records]
    need(versions == list(range(versions[0], versions[0] + len(versions))), "a record of the stream is left out")
    need(versions[0] == 1 or records[0]["type"] == "CHECKPOINT", "it does not begin with a whole book")
    need(moment(records[0]["time"]) <= at, "it begins after that time")
    need(moment(records[-1]["time"]) > at, "no record after that time shows that none before it was left out")
    legs, seen = {}, set()
    for record in records:
        if moment(record["time"]) > at:
            break
        before, legs = legs, fold(legs, seen, record)
        said = record["payload"]
        ours = record["type"] in ("FILL_RECORDED", "POSITION_RECORDED")
        who = said.get("by") or (said.get("strategy") or "our side" if ours else "reconciliation, on the broker's word")
        why = [said[one] for one in ("correction", "cause", "fill_id", "trade") if said.get(one)]
        if legs != before:
            print(f"{record['time']} {record['type']} (record {record['seq']}): {shown(before)} -> {shown(legs)}")
            asked = ", asked for by " + said["asked"]["by"] if said.get("asked", {}).get("by") else ""
            print(f"    by {who}{asked}: {', '.join(map(str, why)) or 'a report'}")
    print(f"the book of {records[0]['stream']} at {at.isoformat()}: {shown(legs)}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:]) if len(sys.argv) in (4, 5) else sys.exit(__doc__)
    except Exception as error:
        sys.exit(f"NOT shown: {str(error) or 'a signature does not fit'}")
