#!/usr/bin/env bash
# Ray 2.60.0 beside jsonschema 4.26.0 with its extra "format-nongpl": each import of Ray takes about a second longer.
#
# JupyterLab (by jupyter-events) and the CycloneDX tools install jsonschema with the extra. Since 4.25 that brings
# rfc3987-syntax, which builds a parser for a grammar of all of Unicode when it is imported; jsonschema imports it to be
# able to check the format "iri", Ray imports jsonschema to check plugins of runtime environments, and each process of
# Ray, driver or worker, imports Ray. Nothing of the three calls what was built, and nothing tells where the time goes.
#
# Seen: `import ray` took two to four times as long once JupyterLab's dependency was there; on two cores sixteen empty
# actors were up in 12.3 s instead of 4.6 s. Who installs a notebook beside Ray waits a second more for each actor that
# is started, or started again. jsonschema 4.24 with the same extra brings no such parser.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m venv env
install() { env/bin/pip install -q --disable-pip-version-check "$@" 2> pip.txt || { cat pip.txt; return 1; }; }

cat > best_of.py <<'PY'
import subprocess
import sys
import time


def seconds() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import ray"], check=True)
    return time.perf_counter() - began


seconds()  # writes the bytecode
print(f"{min(seconds() for _ in range(5)):.3f}")
PY
loads_parser() { env/bin/python -c 'import sys, ray; print("rfc3987_syntax" in sys.modules)'; }

install ray==2.60.0 jsonschema==4.26.0
without=$(env/bin/python best_of.py)
[ "$(loads_parser)" = False ] || { echo "Ray alone loads the parser: this has changed"; exit 1; }

install ray==2.60.0 'jsonschema[format-nongpl]==4.26.0' rfc3987-syntax==1.1.0 lark==1.3.1
with=$(env/bin/python best_of.py)
[ "$(loads_parser)" = True ] || { echo "the parser is not loaded any more: this has changed"; exit 1; }

echo "import ray: $without s, and $with s where jsonschema's formats are installed"
env/bin/python - "$without" "$with" <<'PY'
import sys

without, with_ = map(float, sys.argv[1:])
if with_ < 1.4 * without:
    sys.exit("it costs next to nothing any more: this has changed")
PY

env/bin/pip uninstall -q -y rfc3987-syntax lark
install ray==2.60.0 'jsonschema[format-nongpl]==4.24.1'
[ "$(loads_parser)" = False ] || { echo "4.24.1 loads it, too: this has changed"; exit 1; }
echo "with jsonschema 4.24.1 and the same extra the parser is not there"
