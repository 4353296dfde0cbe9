"""The methods that a server of this shape and its handler have, looked up when a protocol is made."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable
from typing import Any, Final

from ehlo.compat.aiosmtpd._auth import AuthMethod

__all__ = ["CALL_LIMIT_DEFAULT", "Methods"]

CALL_LIMIT_DEFAULT: Final = 20
log: Final = logging.getLogger("mail.log")


class Methods:
    """The part of :class:`ehlo.compat.aiosmtpd.smtp.SMTP` for hooks, mechanisms, commands and their limits."""

    def _find_methods(self, handler: Any, excluded: set[str]) -> None:
        self._auth_methods: dict[str, AuthMethod] = {}
        for owner in (self, handler):
            for name in dir(owner):
                if name.startswith("auth_"):
                    method = getattr(owner, name)
                    mechanism = getattr(
                        method, "__auth_mechanism_name__", name.removeprefix("auth_").replace("__", "-")
                    )
                    self._auth_methods[mechanism] = AuthMethod(method, owner is self)
        for mechanism in excluded:
            self._auth_methods.pop(mechanism, None)
        if log.isEnabledFor(logging.INFO):
            known = sorted(self._auth_methods.items())
            words = [name + "(builtin)" if found.is_builtin else name for name, found in known]
            log.info("Available AUTH mechanisms: %s", " ".join(words))
        self._handle_hooks: dict[str, Callable[..., Any]] = {
            name.removeprefix("handle_"): getattr(handler, name) for name in dir(handler) if name.startswith("handle_")
        }
        self._smtp_methods: dict[str, Any] = {
            name.removeprefix("smtp_"): getattr(self, name) for name in dir(type(self)) if name.startswith("smtp_")
        }
        self._ehlo_hook_ver: str | None = None
        hook = self._handle_hooks.get("EHLO")
        if hook is not None:
            count = len(inspect.signature(hook).parameters)
            if count not in (4, 5):
                raise RuntimeError("Unsupported EHLO Hook")
            self._ehlo_hook_ver = "old" if count == 4 else "new"
            if count == 4:
                warnings.warn(
                    "Use the 5-argument handle_EHLO() hook instead of the 4-argument handle_EHLO() hook; "
                    "support for the 4-argument handle_EHLO() hook will be removed in version 2.0",
                    DeprecationWarning,
                    stacklevel=3,
                )

    def _set_call_limit(self, limit: int | dict[str, int] | None) -> None:
        self._call_budget: dict[str, int] | None = None
        self._call_limit_default = CALL_LIMIT_DEFAULT
        if limit is None:
            return
        if isinstance(limit, dict):
            if not all(isinstance(value, int) for value in limit.values()):
                raise TypeError("All command_call_limit values must be int")
            self._call_limit_default = limit.get("*", CALL_LIMIT_DEFAULT)
            self._call_budget = dict(limit)
        elif isinstance(limit, int):
            self._call_limit_default = limit
            self._call_budget = {}
        else:
            raise TypeError("command_call_limit must be int or Dict[str, int]")
