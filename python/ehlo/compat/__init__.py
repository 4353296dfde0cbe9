"""The shapes of other libraries' clients and servers, over the engine of this package.

:mod:`ehlo.compat.smtplib`, :mod:`ehlo.compat.aiosmtplib` and :mod:`ehlo.compat.aiosmtpd` are for programs that were
written for those. Each has the names, arguments, return values and exceptions of its library, and is written anew.
"""
