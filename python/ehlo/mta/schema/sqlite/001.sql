-- A message never changes. It goes with its last recipient.
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    sender TEXT NOT NULL,
    arrived REAL NOT NULL,
    size INTEGER NOT NULL,
    flags INTEGER NOT NULL,      -- 1 eight_bit, 2 utf8_header, 4 smtputf8, 8 requiretls
    priority INTEGER NOT NULL,
    recipients INTEGER NOT NULL, -- when it was accepted
    stored INTEGER NOT NULL,     -- 0: the content is a row of body; otherwise the name of its file
    hello TEXT,
    peer TEXT,
    facts TEXT                   -- JSON: what few messages have
) STRICT;

CREATE TABLE body (
    message INTEGER PRIMARY KEY,
    content BLOB NOT NULL
) STRICT;

CREATE TABLE recipient (
    message INTEGER NOT NULL,
    id INTEGER NOT NULL,
    path TEXT NOT NULL,
    facts TEXT,                  -- JSON: NOTIFY, ORCPT and other parameters
    owner INTEGER NOT NULL,      -- 0: ready, -1: held, above: the node that delivers it
    due REAL NOT NULL,
    attempts INTEGER NOT NULL,
    warned INTEGER NOT NULL,
    route TEXT,
    reply TEXT,
    host TEXT,
    first_reply TEXT,
    first_attempt REAL,
    last_attempt REAL,
    PRIMARY KEY (message, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX recipient_due ON recipient (due) WHERE owner = 0;
CREATE INDEX recipient_owned ON recipient (owner) WHERE owner > 0;

CREATE TABLE suspension (
    route TEXT PRIMARY KEY,
    until REAL NOT NULL,
    reason TEXT NOT NULL,
    since REAL NOT NULL
) STRICT, WITHOUT ROWID;
