"""Dataclasses to JSON and back: only what the values of the lab are made of.

A dataclass is an object with a member for each field that differs from its default, a tuple a list,
an enum its value, a mapping an object, a task's event a row as in recordings (`event_file`).
Reading follows the types of the fields; what is missing gets the default.
"""

import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from services_lab.event_file import from_rows, to_rows
from trio_services.sans_io.task_events import TaskEvent

T = TypeVar("T")


def to_json(value: object) -> Any:
    """Return `value` as what `json.dumps` takes."""
    if isinstance(value, TaskEvent):
        return to_rows([value])[0]
    if is_dataclass(value):
        return {
            each.name: to_json(getattr(value, each.name))
            for each in fields(value)
            if each.name == "version" or getattr(value, each.name) != _default(each)
        }
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): to_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(each) for each in value]
    return value


def _default(field: "Field[Any]") -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()


def from_json(kind: type[T], value: Any) -> T:
    """Return `value`, which `to_json` made, as an instance of `kind`.

    Raises:
        KeyError: A field without a default is missing.
        TypeError: A value is not of the type of its field.
        ValueError: A value is no member of the enum.
    """
    return cast(T, _read(kind, value))


@cache
def _types_of(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _read(kind: Any, value: Any) -> object:
    origin, args = get_origin(kind), get_args(kind)
    if origin is types.UnionType:  # of one type and None
        return None if value is None else _read(args[0], value)
    if origin is tuple:
        _check(value, list)
        return tuple(_read(args[0], each) for each in value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        _check(value, dict)
        return {key: _read(args[1], each) for key, each in value.items()}
    if kind is TaskEvent:
        _check(value, list)
        return from_rows([value])[0]
    if is_dataclass(kind):
        _check(value, dict)
        wanted = _types_of(cast(type, kind))
        required = {
            each.name
            for each in fields(kind)
            if each.default is MISSING and each.default_factory is MISSING
        }
        if absent := required - value.keys():
            raise KeyError(f"{cast(type, kind).__name__} without {min(absent)}")
        return cast(Any, kind)(
            **{name: _read(wanted[name], each) for name, each in value.items() if name in wanted}
        )
    if issubclass(kind, Enum):
        return kind(value)
    _check(value, (int, float) if kind is float else kind)
    return value


def _check(value: object, kind: Any) -> None:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{value!r} is no {getattr(kind, '__name__', 'number')}")
