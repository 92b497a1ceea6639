"""The POP3 protocol (RFC 1939, 2449, 3206) as states of commands; knows neither processes nor disks.

A state is a table of commands (`command.State`).  `dialogue.Dialogue.run` returns at the end of a state:
the caller gets the result and runs the next state.  A command that is not in the table of a state does
not exist there.

    from           to             by                      what is true in the state reached
    -------------  -------------  ----------------------  ------------------------------------------
    (connected)    AUTHORIZATION  pproxy's session        the greeting was sent; the user is not known
    (connected)    PREAMBLE       pserv's session         nothing was sent; three lines are awaited
    PREAMBLE       TRANSACTION    xpop.read_preamble      mailbox and session id are well-formed, the
                                                          maildrop is open, one +OK was sent
    PREAMBLE       (closed)       xpop: Refused           one -ERR [SYS/PERM] was sent
    AUTHORIZATION  (checking)     PASS: Leave(Credentials)  PASS is not answered yet
    AUTHORIZATION  (checking)     AUTH: Leave(Credentials)  after an exchange; AUTH takes the place of PASS
    (checking)     AUTHORIZATION  pproxy's session        one -ERR answered PASS; the name is forgotten,
                                                          pipelined lines are still in the wire
    (checking)     TRANSACTION    pproxy's session        one +OK answered PASS; the maildrop is empty
    (checking)     (relay)        pproxy's session        the backend's line answered PASS; what the
                                                          client pipelined goes to the backend first
    AUTHORIZATION  (closed)       QUIT: Leave(None)       one +OK was sent
    TRANSACTION    UPDATE         QUIT                    commit() runs, once
    UPDATE         (closed)       QUIT: Leave(Outcome)    deletions are on disk, or one -ERR said which
                                                          are not; one answer was sent
    any            (closed)       Gone                    nothing was deleted; what is still received is
                                                          lost, and a maildrop must still be closed

To close after an answer, use `Wire.linger_close`, or the client may never see the answer.
"""
