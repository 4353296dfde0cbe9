-- When the queue was last written, by the clock of that time: the next start notices a clock that was set back.
CREATE TABLE clock (
    seen REAL NOT NULL -- seconds of the Unix epoch, within a minute; 0: never
) STRICT;
INSERT INTO clock VALUES (0);
