-- When the queue was last written, by the clock of that time: the next start notices a clock that was set back.
CREATE TABLE clock (
    seen double precision NOT NULL -- seconds of the Unix epoch, within a minute; 0: never
);
INSERT INTO clock VALUES (0);
