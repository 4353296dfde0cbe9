-- A message never changes. It goes with its last recipient.
CREATE TABLE message (
    id bigint PRIMARY KEY,
    arrived double precision NOT NULL,
    stored bigint NOT NULL,       -- 0: the content is a row of body; otherwise the name of its chunks
    size bigint NOT NULL,
    flags smallint NOT NULL,      -- 1 eight_bit, 2 utf8_header, 4 smtputf8, 8 requiretls
    priority smallint NOT NULL,
    recipients integer NOT NULL,  -- when it was accepted
    sender text NOT NULL,
    hello text,
    peer text,
    facts text                    -- JSON: what few messages have
);

-- Contents are octets that are compressed badly or were compressed already.
CREATE TABLE body (
    message bigint PRIMARY KEY,
    content bytea NOT NULL
);
ALTER TABLE body ALTER COLUMN content SET STORAGE EXTERNAL;

CREATE TABLE chunk (
    body bigint NOT NULL,
    number integer NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (body, number)
);
ALTER TABLE chunk ALTER COLUMN content SET STORAGE EXTERNAL;

-- Rows are updated in place where no index is touched: so a page has some room.
CREATE TABLE recipient (
    message bigint NOT NULL,
    id bigint NOT NULL,
    due double precision NOT NULL,
    first_attempt double precision,
    last_attempt double precision,
    owner integer NOT NULL,       -- 0: ready, -1: held, above: the node that delivers it
    attempts integer NOT NULL,
    warned smallint NOT NULL,
    path text NOT NULL,
    facts text,                   -- JSON: NOTIFY, ORCPT and other parameters
    route text,
    reply text,
    host text,
    first_reply text,
    PRIMARY KEY (message, id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX recipient_due ON recipient (due) WHERE owner = 0;
CREATE INDEX recipient_owned ON recipient (owner) WHERE owner > 0;

CREATE TABLE suspension (
    route text PRIMARY KEY,
    until double precision NOT NULL,
    reason text NOT NULL,
    since double precision NOT NULL
);

-- A node is one start of one process: its id is the owner of recipients, and is never used again.
CREATE TABLE node (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slot integer NOT NULL UNIQUE, -- a part of the ids that it makes
    name text NOT NULL,
    machine text NOT NULL,        -- where pid means something
    pid integer NOT NULL,
    started double precision NOT NULL,
    heartbeat double precision NOT NULL,
    beats bigint NOT NULL         -- others look whether it grows: their clocks need not agree
);
