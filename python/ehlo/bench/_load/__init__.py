"""The load generator of ``ehlo bench load``: its plan, its connections, its counters and its report."""
