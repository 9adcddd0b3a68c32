#!/usr/bin/env bash
# cad-capgains 2.0.2: a loss of December that is bought back in January is deducted in the old year and again in the new one.
#
# One would guess: "shares with the same ticker were bought in the 61 day window (30 days before or 30 days after the sale)" make a loss
#   superficial, as Canada's tax law has it: it is denied, and added to the cost of what was bought.
# What happens: the report for a year is made of the transactions up to the end of that year. The purchase of January is not there, and the
#   loss counts. The report for the next year has the purchase, finds the loss superficial, and adds it to the cost.
# Seen: 100 bought for 5000, sold on December 20 for 4000, bought back on January 6 for 4100, sold in June for 6000: a loss of 1000 in 2024 and a
#   gain of 900 in 2025, together a loss of 100 where 900 were earned. The same sale on December 2, bought back on the 19th: no loss,
#   and a gain of 900.
# Why it matters: losses are sold in December. The return of the old year claims what the law denies, from one file that had both trades.
# Instead: look by hand for each loss of December whose shares were bought again by January 30, and strike it out of the old year.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check cad-capgains==2.0.2 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

cat > over_the_year.csv <<'CSV'
2024-03-01,bought,ABC,BUY,100,50.00,0.00,CAD
2024-12-20,sold at a loss,ABC,SELL,100,40.00,0.00,CAD
2025-01-06,bought back,ABC,BUY,100,41.00,0.00,CAD
2025-06-02,sold,ABC,SELL,100,60.00,0.00,CAD
CSV
sed 's/2024-12-20/2024-12-02/; s/2025-01-06/2024-12-19/' over_the_year.csv > within_it.csv

venv/bin/pip list 2> pip.txt | grep cad-capgains
for file in over_the_year within_it; do
    for year in 2024 2025; do
        venv/bin/capgains calc "$file.csv" "$year" > "$file.$year.txt"
        echo "$file, $year: $(grep -E 'Total Gains|No capital gains' "$file.$year.txt")"
    done
done
grep -qF '[Total Gains = -1,000.00]' over_the_year.2024.txt
grep -qF '[Total Gains = 900.00]' over_the_year.2025.txt
grep -qF 'No capital gains' within_it.2024.txt
grep -qF '[Total Gains = 900.00]' within_it.2025.txt
echo "as stated"
