"""plmtpd with a system load that the test writes; see loaded.py."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])    # not this folder, which has a daemon.py

from popular.plmtpd.spec import SPEC as REAL
from tests.harness.loaded import loaded

SPEC = loaded(REAL, "tests.harness.loaded_plmtpd")

if __name__ == "__main__":
    from popular.daemon.start.starter import main
    sys.exit(main(SPEC, sys.argv[1:]))
