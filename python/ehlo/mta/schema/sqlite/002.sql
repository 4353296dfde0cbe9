-- Attempts in a row that ended by an error of the program, or with its process.
ALTER TABLE recipient ADD COLUMN crashes INTEGER NOT NULL DEFAULT 0;

-- A content without a message is found without a look at all messages.
CREATE INDEX message_stored ON message (stored) WHERE stored > 0;

-- Routes that a node leaves alone by itself, since their servers do not answer.
CREATE TABLE dead_route (
    node INTEGER NOT NULL,
    route TEXT NOT NULL,
    until REAL NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (node, route)
) STRICT, WITHOUT ROWID;
