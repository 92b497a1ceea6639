"""Programs whose system calls fail: see docs/faults.md."""

BEGIN = "/faults-begin"    # programs of scenes look for it where the faults begin
