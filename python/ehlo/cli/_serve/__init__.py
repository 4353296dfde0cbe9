"""``ehlo serve``: a room for each of its jobs. The command itself is in ``command``."""
