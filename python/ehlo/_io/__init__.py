"""The socket path that the adapters of asyncio and trio share: connected sockets that one watch serves, the transport
over each, the connections over that, and one timer for all that wait equally long.

It imports no event loop. Each adapter hands its own over as a :class:`ehlo._io.loop.Loop`.
"""
