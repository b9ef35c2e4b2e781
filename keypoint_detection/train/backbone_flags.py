"""The flags of the backbones, read from the source of their constructors: `--help` needs no torch."""

import ast
import functools
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from keypoint_detection.models.backbones import backbone_factory

_TYPES = {"bool": bool, "int": int, "float": float, "str": str}


@dataclass(frozen=True)
class BackboneFlag:
    """Hold one option that some backbones take.

    Attributes:
        name: Name of the flag and of the constructor's argument.
        type: bool, int, float or str.
        defaults: Backbone -> its default.
        descriptions: Backbone -> what it means there, from the class's docstring.
    """

    name: str
    type: type
    defaults: dict[str, Any]
    descriptions: dict[str, str]

    def help(self) -> str:
        """Return the first clause of every meaning, with the backbones that have it and their defaults."""
        meanings: dict[str, list[str]] = {}
        for backbone, text in self.descriptions.items():
            shown = (
                repr(self.defaults[backbone]) if self.defaults[backbone] == "" else self.defaults[backbone]
            )
            meanings.setdefault(re.split(r"[.;:] |\.$", text)[0], []).append(f"{backbone} {shown}")
        return "; ".join(f"{text} ({', '.join(backbones)})" for text, backbones in meanings.items())

    def parse(self, value: Any) -> Any:
        """Return a value, as text or plain, in the type of the flag; a ValueError says what was expected."""
        try:
            return TypeAdapter(self.type).validate_python(value)
        except ValidationError:
            message = f"--{self.name}: expected {self.type.__name__}; got {value!r}"
        raise ValueError(message)


@functools.cache
def backbone_flags() -> dict[str, BackboneFlag]:
    """Return every option of every backbone beside the factory that a user chooses, by name."""
    flags: dict[str, BackboneFlag] = {}
    for path in sorted(Path(backbone_factory.__file__).parent.glob("*.py")):
        for backbone, node in _registered_classes(ast.parse(path.read_text(encoding="utf-8"))):
            described = argument_descriptions(ast.get_docstring(node) or "")
            for option, annotation, default in _options(node):
                if option in backbone_factory.DETECTOR_OPTIONS:
                    continue
                flag = flags.setdefault(option, BackboneFlag(option, _TYPES[annotation], {}, {}))
                flag.defaults[backbone], flag.descriptions[backbone] = default, described.get(option, "")
    return flags


def argument_descriptions(docstring: str) -> dict[str, str]:
    """Return argument -> text of the `Args:` section of a Google docstring."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", inspect.cleandoc(docstring), flags=re.MULTILINE)
    entries = re.split(r"^ {4}(?=\w+: )", section[1], flags=re.MULTILINE)[1:] if section else []
    named = (" ".join(entry.split()).partition(": ") for entry in entries)
    return {name: text for name, _, text in named}


def _registered_classes(tree: ast.Module) -> Iterator[tuple[str, ast.ClassDef]]:
    for node in tree.body:
        for decorator in node.decorator_list if isinstance(node, ast.ClassDef) else []:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "register_backbone":
                assert isinstance(node, ast.ClassDef)
                yield ast.literal_eval(decorator.args[0]), node


def _options(node: ast.ClassDef) -> Iterator[tuple[str, str, Any]]:
    """Yield name, annotation and default of the keyword-only arguments of a class's constructor."""
    (constructor,) = (f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__")
    arguments = constructor.args
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        assert argument.annotation is not None
        assert default is not None
        yield argument.arg, ast.unparse(argument.annotation), ast.literal_eval(default)
