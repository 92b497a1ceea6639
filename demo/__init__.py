"""`make run`: a complete mail system under ./run, and one session of each kind shown on the terminal.

    accounts   the accounts
    databases  the databases that the accounts can be in, and `servers` those that are servers
    site       the files of the system: spool, INI files, logs
    service    starting and ending its daemons
    scenes     the sessions shown
    journal    the log lines of proxy and server, joined by session id
    screen     the output

It uses the harness of the tests to start and query daemons.  Nothing is written outside ./run.
"""
