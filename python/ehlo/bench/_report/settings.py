"""The settings of a run, as a person reads them, and how those of several runs differ."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["differences", "settings_of"]

_NAMES: Final = {
    "connections": "connections",
    "messages": "messages",
    "duration": "seconds",
    "warmup": "warm-up, seconds",
    "rate": "rate, messages/s",
    "sizes": "size, octets",
    "corpus": "corpus",
    "recipients": "recipients a message",
    "messages_per_connection": "messages a connection",
    "depth": "messages under way on a connection",
    "tls": "TLS",
    "verify": "certificate checked",
    "pipelining": "pipelining",
    "chunking": "BDAT",
    "lmtp": "LMTP",
    "user": "user",
    "workers": "processes",
    "timeout": "timeout, seconds",
    "seed": "seed",
}


def settings_of(report: dict[str, Any]) -> list[tuple[str, str]]:
    """What a run of load or of capacity did: names and values.

    Example::

        settings_of(run_load(plan))[0]  # ("server", "127.0.0.1:2525")
    """
    plan = report["plan"]
    found = [
        ("server", f"[{plan['host']}]:{plan['port']}" if ":" in plan["host"] else f"{plan['host']}:{plan['port']}")
    ]
    for key, name in _NAMES.items():
        value = plan[key]
        if key == "rate" and value is not None:
            value = f"{value:g} ({plan['arrivals']})"
        if value not in (None, ()):
            found.append((name, _told(value)))
    return found


def differences(named: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """What was set differently in several reports, and on what machine or build they ran: a row for each.

    Example::

        differences([("a", first), ("b", second)])[0]["what"]  # "plan.connections"
    """
    if len(named) < 2:
        return []
    all_settings = [_flat(_settings(report)) for _, report in named]
    names = list(dict.fromkeys(name for settings in all_settings for name in settings))
    return [
        {"what": name, "values": [_told(settings.get(name)) for settings in all_settings]}
        for name in names
        if len({_told(settings.get(name)) for settings in all_settings}) > 1
    ]


def _settings(report: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {key: report[key] for key in ("machine", "plan", "versions", "rounds") if key in report}
    # A comparison's connections are a setting; those of a load are counted, and its setting is in the plan.
    return found if "plan" in report else found | {"connections": report.get("connections")}


def _flat(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{before}{key}.")
        elif value is not None:
            found[f"{before}{key}"] = value
    return found


def _told(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
