"""Words of the texts that people read."""

from __future__ import annotations

__all__ = ["counted"]


def counted(count: float, noun: str, form: str = "") -> str:
    """A number with its noun, in the singular after 1.

    Arguments:
        count: how many. noun: in the singular; its plural has an "s" more. form: how the number is formatted.

    Example::

        counted(1, "message")  # "1 message"
        counted(1200, "message", ",")  # "1,200 messages"
    """
    number = format(count, form)
    return f"{number} {noun}" if number == "1" else f"{number} {noun}s"
