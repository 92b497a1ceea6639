"""The state file: shared memory in which master and children report what they do, for pstatus and Prometheus."""
