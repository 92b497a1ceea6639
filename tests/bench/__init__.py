"""The benchmark: how much CPU a POP3 session costs, in POPular and in the servers it is measured against.

    __main__      `make bench`: options, the run, the report
    options       what can be chosen, and the presets full, quick and smoke
    population    users and mailboxes, the same for everyone
    databases     the files that know the users
    contenders    who takes part; ours, dovecot, peers start them from the files in configs/
    floor         the smallest programs for the same work, in Python and C, from floors/
    warden        the process that a contender lives below: starts it, counts its CPU, ends it
    ward          a warden, as the run sees it
    cputime       the CPU time of a whole process tree, ended children included
    memory        the memory of a process tree by program (PSS)
    scripts       what one session of each workload says, and what must be answered
    load          the load generator: several processes, epoll, one session after the other
    tls, tlsload  the certificate of all, and the load generator over TLS
    workloads     one measured turn of each workload; datagrams, resting and big do the special ones
    turns         round robin: who is measured when
    kinds         what can grow, and what is measured at each step of it
    interpreters  other Pythons for our contenders, each with an environment of its own
    pairs         the paired run: two of POPular side by side, sessions in turns
    growth        the growth run: everyone anew at each step
    lookups       what a look-up costs in each database module; a program of its own
    delivery      what a delivery costs in pdeliver, plmtpd and Dovecot; a program of its own
    results, growth_results        the figures of a run, as JSON
    report, tls_report, growth_report, plots, svg, machine    what is printed and drawn

Nothing here is a timed test: `make test` only runs a smoke test of it, whose figures mean nothing.
"""
