#!/usr/bin/env bash
# capital-gains 1.0.8: a wash sale is found only when the lots have names; with the optional column blank each loss is deducted.
#
# One would guess: the name of a lot is "optional (can be blank)" and chooses which lot a sale closes. "identify wash sales and adjust cost basis
#   (default: True)" goes by symbol and date.
# What happens: a purchase within 30 days counts as the replacement when its name is another than that of the lot that was sold. Two blank names are
#   the same name: there is no replacement, ever.
# Seen: 100 bought for 5000, sold on June 2 for 4000, 100 bought again on June 16 for 4100. Names blank: a loss of 1000 and a cost of 4100. The same
#   three lines with the names "a" and "b" for the lots: a loss of 0, a wash sale of 1000 and a cost of 5100.
# Why it matters: brokers' exports have no names of lots, so the form 8949 that comes out claims each loss that the law denies, and its column of wash
#   sales, full of zeros, says that they were looked for.
# Instead: give each purchase a name of its own, and each sale the name that FIFO would choose.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check capital-gains==1.0.8 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

cat > named.csv <<'CSV'
date,symbol,name,shares,price,fee
2025-03-03,ABC,a,100,50,
2025-06-02,ABC,a,-100,40,
2025-06-16,ABC,b,100,41,
CSV
sed 's/,[ab],/,,/' named.csv > blank.csv

venv/bin/pip list 2> pip.txt | grep capital-gains
for file in named blank; do
    venv/bin/capital-gains --totals "$file.csv" > "$file.txt"
    echo "names in the file: $file"
    grep ABC "$file.txt"
done
# shares | acquired | sold | proceeds | cost basis | wash sale | gain, and the lot that is open
grep -Eq '^ *ABC \| +a \| +100 \| 2025-03-03 \| 2025-06-02 \| +4000 \| +5000 \| +1000 \| +0$' named.txt
grep -Eq '^ *ABC \| +b \| +100 \| 2025-06-16 \| +5100$' named.txt
grep -Eq '^ *ABC \| +\| +100 \| 2025-03-03 \| 2025-06-02 \| +4000 \| +5000 \| +0 \| +-1000$' blank.txt
grep -Eq '^ *ABC \| +\| +100 \| 2025-06-16 \| +4100$' blank.txt
echo "as stated"
