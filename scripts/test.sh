#!/bin/sh
# Run the tests with the interpreter PYTHON: test.sh [ARGUMENTS OF PYTEST].
#
# Without arguments all of them, in two runs side by side: most wait most of the time.  Those of the second run
# work with the checkout as a whole, or with other software (see APART in tests/conftest.py); its output comes last.
set -u

python=${PYTHON:-python3}
[ $# = 0 ] || exec "$python" -m pytest "$@"

log=$(mktemp) || exit 1
"$python" -m pytest -p no:cacheprovider --apart only >"$log" 2>&1 &
apart=$!
trap 'kill "$apart" 2>/dev/null; rm -f "$log"' EXIT
trap 'exit 130' INT TERM

code=0
"$python" -m pytest --apart not || code=$?
wait "$apart" || code=$?
cat "$log"
exit "$code"
