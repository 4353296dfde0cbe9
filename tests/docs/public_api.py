"""Print the public face of the package: every public name with its signature, its methods and its attributes.

Run it as ``python tests/docs/public_api.py``. The file ``tests/data/public-api.txt`` holds what it printed last, so
that a change of the public face is seen in the diff.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import re
from collections.abc import Iterator

MODULES = (
    "ehlo",
    "ehlo.asyncio",
    "ehlo.trio",
    "ehlo.sync",
    "ehlo.compat",
    "ehlo.compat.aiosmtplib",
    "ehlo.compat.smtplib",
    "ehlo.store",
    "ehlo.mta",
    "ehlo.mta.delivery_status",
    "ehlo.mta.dns",
    "ehlo.testing",
    "ehlo.bench",
)


def describe(name: str, thing: object) -> Iterator[str]:
    """The lines for one name."""
    if inspect.isclass(thing):
        bases = ", ".join(base.__name__ for base in thing.__bases__ if base is not object)
        yield f"class {name}({bases})" if bases else f"class {name}"
        if issubclass(thing, enum.Enum):
            yield from (f"  {name}.{member.name}" for member in thing)
        members = {key: value for key, value in inspect.getmembers(thing) if not key.startswith("_")}
        if "__init__" in vars(thing) or not members:
            yield f"  {name}{signature(thing)}"
        for key, value in sorted(members.items()):
            yield f"  .{key}{signature(value)}" if callable(value) else f"  .{key}"
    elif callable(thing):
        yield f"def {name}{signature(thing)}"
    else:
        yield name


def signature(thing: object) -> str:
    """Arguments and defaults, without annotations: these change with the place of a module."""
    try:
        found = inspect.signature(thing)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return "(?)"
    plain = [parameter.replace(annotation=parameter.empty) for parameter in found.parameters.values()]
    text = str(found.replace(parameters=plain, return_annotation=found.empty))
    return re.sub(r" at 0x[0-9a-f]+", "", text)  # a default that is a function


def public_api() -> str:
    """The whole text."""
    lines = []
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        lines.append(f"[{module_name}]")
        for name in sorted(module.__all__):
            lines += describe(name, getattr(module, name))
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(public_api(), end="")
