"""Walls around a process: seccomp, Landlock, capabilities and limits, in a shape that a fork can put up fast."""
