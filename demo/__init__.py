"""`make run`: a complete mail system under ./run, and one session of each kind shown on the terminal.

    accounts   who has an account, and the SQLite database that says so
    site       the files of the system: spool, INI files, logs
    service    starting and ending its daemons
    scenes     the sessions that are shown
    journal    the log lines of proxy and server, joined by session id
    screen     how it looks

It stands on the harness of the tests: daemons are started and asked the same way there.  Nothing
is written outside ./run.
"""
