-- The table that the database module mysql asks without a query of your own.  Columns are explained in popular-pdm(7).
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
    PRIMARY KEY (user, namespace)
) CHARACTER SET utf8mb4;
