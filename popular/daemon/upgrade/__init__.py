"""Replacing a running master by one of another version, without losing a session.

1. The old master, asked by `upgrade` or USR2, starts the starter that lies on disk, as nobody's child.  One record
   (start.handover) leads it to everything: listeners, log, pid file and its lock, connections to ringd, configuration
   of the moment, and a line between both masters.  The old state file gets a second name.
2. The starter reads the record instead of options and INI file, checks the configuration, and becomes the new master.
3. The new master opens a control socket and a state file under names of their own, and forks children.  They accept
   beside those of the old one.
4. The new master waits until one of its children is ready, and none has failed for `PROOF_SECONDS` after that.
5. It takes charge: it writes its pid into the pid file, whose lock it has too,
6. puts its state file in the place of the other, by rename,
7. lets the link to the control socket lead to its own, by rename,
8. tells the service manager, and the old master, that it serves.
9. The old master hears that while the new one lives.  It lets go of the lock, takes no more connections, tells its
   children to leave after their sessions, and answers who asked.
10. The old master ends with its last session, after `STAY_SECONDS` at the earliest.  A command that ends the new one is
    passed on over the line, and the new one ends after the old one.

When the new master dies, fails, or hangs beyond `UPGRADE_SECONDS`, up to step 8, the old one sees that by the line or
by its clock.  It kills what is left and takes charge as in steps 5 to 8, so it does not matter how far the other had
come, and nobody notices that anything was asked.  When the old master dies, after whichever step, the new one
goes on to its step 8, and needs no proof to begin with step 5.  From step 9 on the new master is the daemon, and nobody
comes back for it.

Changes by commands are refused from step 1 on.  Over the line, the new master says `serves VERSION` and `end COMMAND`,
in a packet each; the old one says nothing.
"""
