"""The state file: shared memory in which master and children tell what they do, for pstatus and Prometheus."""
