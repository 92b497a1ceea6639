-- The table that the database module pgsql asks without a query of your own.  popular-pdm(7) explains the columns, of
-- which you may omit those with a default.
CREATE TABLE users (
    "user"    text NOT NULL,                      -- as the client sends it; without quotes, user means something else
    namespace text NOT NULL DEFAULT 'default',    -- of the virtual server
    password  text NOT NULL,                      -- a hash
    backend   text NOT NULL,                      -- id of a backend
    protocol  text NOT NULL DEFAULT '',           -- cxpop, xpop or pop3; empty: that of the backend
    mailbox   text NOT NULL DEFAULT '',           -- for cxpop and xpop
    buser     text NOT NULL DEFAULT '',           -- for pop3: login at the backend
    bpass     text NOT NULL DEFAULT '',
    passwords text NOT NULL DEFAULT '',           -- more passwords: lines LABEL:HASH
    disabled  text NOT NULL DEFAULT '',           -- why the user cannot log in
    until     timestamptz,                        -- when this ends
    networks  text NOT NULL DEFAULT '',           -- from where they can
    PRIMARY KEY ("user", namespace)
);
GRANT SELECT ON users TO pproxy;
