-- The table that the database module pgsql asks without a query of your own.  Columns are explained in popular-pdm(7).
CREATE TABLE users (
    "user"    text NOT NULL,                      -- as the client sends it; without quotes, user means something else
    namespace text NOT NULL DEFAULT 'default',    -- of the virtual server
    password  text NOT NULL,                      -- a hash
    backend   text NOT NULL,                      -- id of a backend
    protocol  text NOT NULL DEFAULT '',           -- cxpop, xpop or pop3; empty: that of the backend
    mailbox   text NOT NULL DEFAULT '',           -- for cxpop and xpop
    buser     text NOT NULL DEFAULT '',           -- for pop3: login at the backend
    bpass     text NOT NULL DEFAULT '',
    PRIMARY KEY ("user", namespace)
);
GRANT SELECT ON users TO pproxy;
