#!/bin/sh
# Run the tests with the interpreter PYTHON: test.sh [ARGUMENTS OF PYTEST].
#
# Without arguments all of them, in three runs side by side, which share them (tests/harness/shares.py): most wait most
# of the time.  The output of the second and the third comes last.  Each has temporary folders of its own, since pytest
# clears away those of earlier runs, and two that do so at once meet an error.
set -u
unset PYTHONDONTWRITEBYTECODE    # or each of hundreds of processes would compile the same modules

python=${PYTHON:-python3}
[ $# = 0 ] || exec "$python" -m pytest "$@"

folder=$(mktemp -d) || exit 1
mkdir "$folder/share"
style=console_output_style=classic    # nobody knows how much is left
others=
for number in 2 3; do
    "$python" -m pytest -o "$style" -p no:cacheprovider "--share=$folder/share" "--basetemp=$folder/temp$number" \
        >"$folder/$number" 2>&1 &
    others="$others $!"
done
# shellcheck disable=SC2064,SC2086  # the processes that there are now
trap "kill $others 2>/dev/null; rm -rf '$folder'" EXIT
trap 'exit 130' INT TERM

code=0
"$python" -m pytest -o "$style" "--share=$folder/share" "--basetemp=$folder/temp1" || code=$?
for process in $others; do wait "$process" || code=$?; done
cat "$folder/2" "$folder/3"
"$python" -m pytest "--shared=$folder/share" "--basetemp=$folder/temp4" tests/meta/test_catalogue.py || code=$?
exit "$code"
