"""What the tests stand on: starting daemons, talking POP3, looking at processes, real mail.

Nothing here knows how POPular works inside: the daemons are started by their programs, configured
by INI files and asked through their ports, signals and log files, as an administrator would do it.
"""
