"""The socket path that the adapters of asyncio and trio share: one watch for all connected sockets, a transport for
each, the connections over the transports, and one timer for all that wait equally long.

It imports no event loop. Each adapter gives its own loop as a :class:`ehlo._io.loop.Loop`.
"""
