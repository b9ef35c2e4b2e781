"""What the agent of a sweep writes on a command line: Python's lists, booleans and None as text."""

import ast
from typing import Any, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

NONE_TEXTS = ("None", "none", "null")


def plain_value(value: Any, field: FieldInfo) -> Any:
    """Return the value of a flag, with a list or None that came as text turned into what it stands for.

    Args:
        value: What argparse gave: text, a list of texts, or True.
        field: The setting; it decides whether a list, a mapping or None may stand there.
    """
    if isinstance(value, list) and len(value) == 1:
        return plain_value(value[0], field)
    if not isinstance(value, str):
        return value
    kinds = (field.annotation, *get_args(field.annotation))
    if value in NONE_TEXTS and type(None) in kinds:
        return None
    collections = [kind for kind in kinds if get_origin(kind) in (list, tuple, dict)]
    if collections and value.strip()[:1] in ("[", "(", "{"):
        return _literal(value, otherwise=value)
    return value


def trainer_value(text: str) -> Any:
    """Return the value of an argument of Lightning's Trainer: Python's way to write it, or else YAML's."""
    missing = object()
    value = _literal(text, otherwise=missing)
    return yaml.safe_load(text) if value is missing else value


def _literal(text: str, otherwise: Any) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return otherwise
