-- The table that the database module mysql asks without a query of your own.  popular-pdm(7) explains the columns, of
-- which you may omit those with a default.
-- Names are compared octet by octet: other types would take "Joe", "jöe" or "joe " for "joe".
CREATE TABLE users (
    user      VARBINARY(255) NOT NULL,                      -- as the client sends it
    namespace VARBINARY(64)  NOT NULL DEFAULT 'default',    -- of the virtual server
    password  VARCHAR(1024)  NOT NULL,                      -- a hash
    backend   VARCHAR(64)    NOT NULL,                      -- id of a backend
    protocol  VARCHAR(8)     NOT NULL DEFAULT '',           -- cxpop, xpop or pop3; empty: that of the backend
    mailbox   VARCHAR(512)   NOT NULL DEFAULT '',           -- for cxpop and xpop
    buser     VARCHAR(255)   NOT NULL DEFAULT '',           -- for pop3: login at the backend
    bpass     VARCHAR(255)   NOT NULL DEFAULT '',
    passwords VARCHAR(4096)  NOT NULL DEFAULT '',           -- more passwords: lines LABEL:HASH
    disabled  VARCHAR(255)   NOT NULL DEFAULT '',           -- why the user cannot log in
    until     DATETIME,                                     -- when this ends (UTC)
    networks  VARCHAR(1024)  NOT NULL DEFAULT '',           -- from where they can
    PRIMARY KEY (user, namespace)
) CHARACTER SET utf8mb4;
