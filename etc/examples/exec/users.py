#!/usr/bin/python3 -ISB
"""An example for the database module exec: users in a file with a JSON object on each line.

    users.py FILE

For example: {"user": "joe", "namespace": "example.org", "password": "{PLAIN}secret", "backend": "store1",
"mailbox": "3/2d/joe"}.  Without a namespace, the user is in all of them.
"""

import json
import sys


def answer(path, question):
    """Return what the module is told."""
    with open(path, encoding="utf-8") as file:
        for line in filter(str.strip, file):
            row = json.loads(line)
            if row.pop("user") == question["user"] and row.pop("namespace", None) in (None, question["namespace"]):
                return {"outcome": "found", **row}
    return {"outcome": "unknown"}


for line in sys.stdin:
    question = json.loads(line)
    try:
        told = answer(sys.argv[1], question)
    except (OSError, ValueError, KeyError) as why:
        told = {"outcome": "failed", "why": f"{type(why).__name__}: {why}"}
    print(json.dumps({"id": question["id"], **told}), flush=True)
