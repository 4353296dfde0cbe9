"""``python -m ehlo`` is the command ``ehlo``."""

from __future__ import annotations

from ehlo.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
