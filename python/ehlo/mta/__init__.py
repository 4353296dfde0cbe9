"""The MTA kit: a durable queue and the way to the next hop."""
