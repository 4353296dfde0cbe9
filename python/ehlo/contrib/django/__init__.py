"""Django's mail by the engine: :class:`EmailBackend`.

    EMAIL_BACKEND = "ehlo.contrib.django.EmailBackend"

All of Django's settings hold. Connections are kept for the next mail, whatever thread sends it; two more settings say
how many, and for how long:

- ``EHLO_EMAIL_KEEP_SECONDS``: how long an idle connection is kept, in seconds; 30 by default, 0 for not at all.
- ``EHLO_EMAIL_KEEP_CONNECTIONS``: how many idle ones are kept at most; 10 by default.
"""

from __future__ import annotations

from ehlo.contrib.django._backend import EmailBackend

__all__ = ["EmailBackend"]
