"""``ehlo bench compare``: our servers and clients beside other programs."""
