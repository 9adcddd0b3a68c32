#!/usr/bin/env bash
# tax-lot-tracker 0.1.0: each "calculate" books every purchase once more, --recalculate as well; a gain of 70,000 becomes one of 120,000.
#
# One would guess: calculate processes what is new, calculate --recalculate begins "from scratch", as its help says. To run it twice changes nothing.
# What happens: new is what has no disposal yet, which a purchase never has. --recalculate empties the disposals and refills the lots, and then
#   books all purchases into lots beside them.
# Seen: 1 bitcoin bought at 40,000 and 1 at 90,000. After calculate the portfolio has 2 for 130,000, after a second one 4 for 260,000, after calculate
#   --recalculate 6 for 390,000. Both are sold at 100,000: once calculated the gain is 70,000 and nothing is held; calculated before and after the
#   sale it is 120,000, of two coins for 40,000 each, and 2 are held that are sold.
# Why it matters: whoever imports month by month, or looks at another method (--method hifo --recalculate), pays tax on a lot that was never bought,
#   and Form 8949 has the same purchase twice. A sale of more than one owns is not noticed.
# Instead: delete tax_lots.db, import all files again and calculate once.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check tax-lot-tracker==0.1.0 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
"$work/venv/bin/python" -c 'from importlib.metadata import version; print("tax-lot-tracker", version("tax-lot-tracker"))'
cd "$work"

cat > bought.csv <<'CSV'
date,type,asset,amount,price_usd,fee_usd
2024-01-05 12:00:00,buy,BTC,1,40000,0
2024-02-05 12:00:00,buy,BTC,1,90000,0
CSV
cat > sold.csv <<'CSV'
date,type,asset,amount,price_usd,fee_usd
2025-06-05 12:00:00,sell,BTC,2,100000,0
CSV

tracker() { "$work/venv/bin/tax-lot-tracker" "$@"; }
held() { tracker portfolio | awk '$1 == "BTC" {print $2, $NF} /No holdings/ {print "nothing"}'; }
gain() { tracker gains 2025 | awk '/Net Gain\/Loss/ {print $NF}'; }
is() {
    echo "$1: $2"
    [ "$2" = "$3" ] || { echo "expected: $3"; exit 1; }
}

mkdir once && cd once
tracker import csv ../bought.csv > /dev/null
tracker import csv ../sold.csv > /dev/null
tracker calculate > /dev/null
is "calculated once, after the sale: gain" "$(gain)" '$70,000.00'
is "                                 held" "$(held)" 'nothing'

mkdir ../twice && cd ../twice
tracker import csv ../bought.csv > /dev/null
tracker calculate > /dev/null
is "calculated once" "$(held)" '2.00000000 130,000.00'
tracker import csv ../sold.csv > /dev/null
tracker calculate > /dev/null
is "calculated before and after the sale: gain" "$(gain)" '$120,000.00'
is "                                      held" "$(held)" '2.00000000 180,000.00'

mkdir ../again && cd ../again
tracker import csv ../bought.csv > /dev/null
tracker calculate > /dev/null
tracker calculate > /dev/null
is "calculated twice" "$(held)" '4.00000000 260,000.00'
tracker calculate --recalculate > /dev/null
is "and recalculated from scratch" "$(held)" '6.00000000 390,000.00'
echo "as stated"
