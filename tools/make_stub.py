"""Write ``python/ehlo/_core.pyi``, the stub of the extension.

    python tools/make_stub.py            write the file
    python tools/make_stub.py --check    fail when the file differs

Names, defaults and docstrings come from the installed extension. Types come from ``rust/ehlo-py/types.pyi``, but the
types of settings come from the extension, too. Build the extension first: ``maturin develop``.
"""

import argparse
import ast
import inspect
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ehlo import _core

ROOT = Path(__file__).parent.parent
TYPES = ROOT / "rust/ehlo-py/types.pyi"
STUB = ROOT / "python/ehlo/_core.pyi"
WIDTH = 120
# Special methods whose types are the same in every class. A class has them in this order.
SPECIAL = {
    "__eq__": "def __eq__(self, other: object, /) -> bool: ...",
    "__hash__": "def __hash__(self) -> int: ...",
    "__str__": "def __str__(self) -> str: ...",
}
# So short is the docstring of a class of settings: help() shows the text of each setting at its attribute.
ALL_SETTINGS = "settings: Each attribute below is an argument of the same name."
HEAD = '''"""{doc}"""

# Written by tools/make_stub.py. Change the docs in rust/ehlo-py/src, the types in rust/ehlo-py/types.pyi.

'''


class StubError(Exception):
    """The types and the extension do not fit together."""


def stub() -> str:
    """The text of the stub.

    Raises:
        StubError: a name is in the types and not in the extension, or in the extension and not in the types.
    """
    source = TYPES.read_text(encoding="utf-8")
    body = ast.parse(source).body
    imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom | ast.If)]
    rest = [node for node in body if node not in imports]
    names = [name for name in vars(_core) if not name.startswith("_") or name == "__version__"]
    defined = {node.name for node in rest if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    compare("ehlo._core", defined | names_of(rest), names)
    parts = [HEAD.format(doc=inspect.getdoc(_core)) + verbatim(source, imports).replace("  # noqa: F401", "")]
    # Constants, classes, functions: the order that ruff wants.
    names.sort(key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    parts.append("\n".join(["__all__ = [", *(f'    "{name}",' for name in names), "]"]))
    for node in rest:
        if isinstance(node, ast.ClassDef):
            parts.append("\n".join(class_lines(node, getattr(_core, node.name))))
        elif isinstance(node, ast.FunctionDef):
            parts.append("\n".join(function_lines(node, getattr(_core, node.name), "")))
        else:
            parts.append(verbatim(source, [node]))
    return "\n\n".join(parts) + "\n"


def names_of(nodes: list[ast.stmt]) -> set[str]:
    """The public names of annotated assignments."""
    names = {ast.unparse(node.target) for node in nodes if isinstance(node, ast.AnnAssign)}
    return {name for name in names if not name.startswith("_") or name == "__version__"}


def compare(where: str, types: set[str], extension: list[str]) -> None:
    """Raise if one side has a name that the other has not."""
    if differing := types ^ set(extension):
        raise StubError(f"{where}: only in the types or only in the extension: {', '.join(sorted(differing))}")


def verbatim(source: str, nodes: Sequence[ast.stmt]) -> str:
    """The source of ``nodes``, with the empty lines between them."""
    first, last = nodes[0].lineno, nodes[-1].end_lineno
    return "\n".join(source.splitlines()[first - 1 : last])


def class_lines(node: ast.ClassDef, thing: Any) -> Iterator[str]:
    """The lines of a class: its docstring, its members in the order of the types, then special methods."""
    yield "@final"
    yield f"class {node.name}:"
    settings = dict(vars(_core)["_setting_types"]()).get(node.name, [])
    yield from doc_lines(node.name, thing, "    ", [name for name, *_ in settings])
    members = [member for member in node.body if isinstance(member, ast.AnnAssign | ast.FunctionDef)]
    listed = {ast.unparse(member.target) if isinstance(member, ast.AnnAssign) else member.name for member in members}
    listed -= {"__new__", *(name for name in listed if name.startswith("__"))}
    compare(node.name, listed | {name for name, *_ in settings}, [name for name in vars(thing) if name[0] != "_"])
    more: list[str] = []
    if "__match_args__" in vars(thing):
        words = ", ".join(f'"{name}"' for name in thing.__match_args__)
        more.append(f"    __match_args__: Final = ({words}{',' if len(thing.__match_args__) == 1 else ''})")
    if settings:
        defaults = inspect.signature(thing).parameters
        parameters = [f"{name}: {argument} = {literal(defaults[name].default)}" for name, argument, _ in settings]
        more += signature_lines("__new__", ["cls", parameters[0], "*", *parameters[1:]], node.name, "    ")
    for member in members:
        if isinstance(member, ast.AnnAssign):
            more += property_lines(ast.unparse(member.target), source_of(member.annotation), thing)
        else:
            more += method_lines(member, thing)
    for name, _, kind in settings:
        more += property_lines(name, kind, thing)
    more += [f"    {line}" for name, line in SPECIAL.items() if vars(thing).get(name)]
    if more:
        yield ""
        yield from more


def property_lines(name: str, kind: str, thing: Any) -> Iterator[str]:
    """The lines of a property."""
    yield "    @property"
    *lines, last = signature_lines(name, ["self"], kind, "    ")
    yield from [*lines, last.removesuffix(" ...")]
    yield from doc_lines(f"{thing.__name__}.{name}", getattr(thing, name), "        ")


def method_lines(node: ast.FunctionDef, thing: Any) -> Iterator[str]:
    """The lines of a method, a static method, or a setter."""
    for decorator in node.decorator_list:
        yield f"    @{ast.unparse(decorator)}"
    if node.name == "__new__":
        yield from function_lines(node, thing, "    ", documented=False)
    elif node.decorator_list and isinstance(node.decorator_list[0], ast.Attribute):
        yield from function_lines(node, None, "    ", documented=False)
    else:
        special = node.name.startswith("__")
        yield from function_lines(node, None if special else getattr(thing, node.name), "    ", documented=not special)


def function_lines(node: ast.FunctionDef, thing: Any, indent: str, *, documented: bool = True) -> Iterator[str]:
    """The lines of a function: the types of ``node`` with the defaults and the docstring of ``thing``."""
    given = node.args
    plain = [*given.posonlyargs, *given.args]
    parameters = [] if thing is None else list(inspect.signature(thing).parameters.values())
    defaults = {parameter.name: parameter.default for parameter in parameters}
    names = [arg.arg for arg in [*plain, *given.kwonlyargs] if arg.arg not in {"self", "cls"}]
    names += [arg.arg for arg in (given.vararg, given.kwarg) if arg is not None]
    if thing is not None and names != [name for name in defaults if name != "self"]:
        raise StubError(f"{node.name}: the types have ({', '.join(names)}), the extension {inspect.signature(thing)}")

    def one(arg: ast.arg) -> str:
        text = f"{arg.arg}: {source_of(arg.annotation)}" if arg.annotation else arg.arg
        default = defaults.get(arg.arg, inspect.Parameter.empty)
        return text if default is inspect.Parameter.empty else f"{text} = {literal(default)}"

    words = [one(arg) for arg in given.posonlyargs] + (["/"] if given.posonlyargs else [])
    words += [one(arg) for arg in given.args]
    words += ["*"] if given.kwonlyargs and given.vararg is None else []
    words += [f"*{one(given.vararg)}"] if given.vararg else []
    words += [one(arg) for arg in given.kwonlyargs]
    words += [f"**{one(given.kwarg)}"] if given.kwarg else []
    returns = source_of(node.returns)
    lines = signature_lines(node.name, words, returns, indent)
    if documented:
        lines[-1] = lines[-1].removesuffix(" ...")
        lines += doc_lines(node.name, thing, f"{indent}    ")
    yield from lines


def source_of(annotation: ast.expr | None) -> str:
    """A type as it is written, with double quotes."""
    return "None" if annotation is None else ast.unparse(annotation).replace("'", '"')


def signature_lines(name: str, words: list[str], returns: str, indent: str) -> list[str]:
    """The line of a ``def``, or a line for each parameter where one line would be too long."""
    line = f"{indent}def {name}({', '.join(words)}) -> {returns}: ..."
    # A property ends with the colon.
    if len(line) <= WIDTH + (4 if words == ["self"] else 0):
        return [line]
    return [f"{indent}def {name}(", *(f"{indent}    {word}," for word in words), f"{indent}) -> {returns}: ..."]


def literal(default: object) -> str:
    """A default as Python writes it, with double quotes."""
    if isinstance(default, list):
        return f"[{', '.join(literal(one) for one in default)}]"
    return f'"{default}"' if isinstance(default, str) else repr(default)


def doc_lines(name: str, thing: Any, indent: str, settings: Sequence[str] = ()) -> Iterator[str]:
    """The lines of a docstring, with the text of each setting in the place of the line that stands for all of them."""
    doc = inspect.cleandoc(thing.__doc__ or "")
    if settings:
        rows = [f"{one}: {inspect.cleandoc(getattr(thing, one).__doc__)}" for one in settings]
        doc = doc.replace(ALL_SETTINGS, "\n".join(row.replace("\n", "\n    ") for row in rows).replace("\n", "\n    "))
    doc = doc.replace("\\", "\\\\")
    if not doc:
        raise StubError(f"{name}: no docstring")
    if '"""' in doc or doc.endswith('"') or doc.startswith('"'):
        raise StubError(f"{name}: the docstring has quotes where they cannot stand")
    first, *more = doc.split("\n")
    if not more and len(indent) + len(first) + 6 <= WIDTH:
        yield f'{indent}"""{first}"""'
        return
    yield f'{indent}"""{first}'
    yield from (f"{indent}{line}" if line else "" for line in more)
    yield f'{indent}"""'


def main() -> int:
    """Write the file, or check it. Return the exit status."""
    parser = argparse.ArgumentParser(description="Write the stub of the extension.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the file differs")
    check = parser.parse_args().check
    try:
        text = stub()
    except StubError as error:
        print(f"make_stub: {error}", file=sys.stderr)
        return 1
    if not check:
        STUB.write_text(text, encoding="utf-8")
    elif STUB.read_text(encoding="utf-8") != text:
        print(f"{STUB.relative_to(ROOT)} is not up to date: run python tools/make_stub.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
