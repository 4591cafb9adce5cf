"""Sort one JSON array: bytes in, bytes out.

This is what runs in a worker, be it the event loop, a thread or a process, so it knows of none of
them. Three readers share the work, and the rule between them is that speed never changes an answer:

- *orjson* reads most lists. It rounds integers beyond 64 bits to floats, and refuses lone
  surrogate escapes, which are legal JSON.
- *The standard library* reads again, exactly, whatever orjson refused or may have rounded, and is
  the judge of what is JSON. Integers longer than any double become `Decimal`: reading one,
  comparing it with another, and `str()` are exact at any length and take linear time, where `int()`
  is quadratic and refuses more than 4300 digits. They are sorted apart from the others, since to
  compare a `Decimal` with 5e-324 takes 751 digits, each time: 8 KiB of both took 5 ms, now 0.5.
- *simdjson and numpy* are the vector path: no Python object per number. It takes only a flat array
  of 64-bit integers, or of floats, and declines everything else.

Left out on purpose: keys, nested arrays, an order between numbers and strings, booleans or null.
"""

import json
import math
from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum
from typing import Any, NoReturn, cast

import orjson

Octets = bytes | bytearray | memoryview
Checkpoint = Callable[[], object]

INT_CHARACTERS = 310
"""Integers spelled in more characters than this become Decimal. They are farther from zero than
every float, the largest of which has 309 digits, and than every integer that is spelled in less."""

VECTOR_MIN_BYTES = 8 * 1024
"""From this payload size on, AUTO uses the vector path. It is faster from some 50 numbers on (100
integers: 2.7 µs against 4.4; 1,000: 12 against 49), but would cost a server that sorts only short
lists itself the import of numpy: 60 ms of a stalled loop and 25 MB. Workers have paid that."""

MAX_GROWTH = 4
"""No sorted list is more than this many times as long as the list. What grows most is `1e15`, and
its comma, to `1000000000000000.0`, by 3.8: from 1e16 on, and below 1e-5, floats are written with an
exponent, and with no more digits than they came with, or 17."""

GNOME_STEPS = 10_000
"""Steps of gnome sort between two checkpoints: about half a millisecond, so that a cancelled job
ends soon, and asking costs nothing beside the work."""

MAX_MESSAGE_LENGTH = 200
"""Longest message of an error reply, in characters: it is to be read as one line."""

NUMBERS = {int, float, Decimal}

KINDS = {
    int: "a number",
    float: "a number",
    Decimal: "a number",
    str: "a string",
    bool: "a boolean",
    type(None): "null",
    list: "an array",
    dict: "an object",
}
"""What a client calls the types that the readers return."""


class Algorithm(StrEnum):
    """How a list is sorted. The result is the same, byte for byte."""

    AUTO = "auto"
    """The vector path for long lists that fit it, else timsort."""
    TIMSORT = "timsort"
    VECTOR = "vector"
    """The vector path for every list that fits it, else timsort."""
    GNOME = "gnome"
    """Quadratic, in pure Python: the original's, kept because it burns a core on purpose."""


class ErrorCode(StrEnum):
    """The codes of error replies; part of the wire protocol."""

    TOO_LARGE = "too-large"
    NOT_JSON = "not-json"
    NOT_SORTABLE = "not-sortable"
    TIMEOUT = "timeout"
    BUSY = "busy"
    WORKER_FAILED = "worker-failed"


class SortError(Exception):
    """A list was not sorted. Says what the client is told: a code and one line of text."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(code, message)  # both, so that it can be pickled
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


def error_reply(error: SortError) -> bytes:
    """Return the JSON object that tells a client of `error`."""
    message = error.message[:MAX_MESSAGE_LENGTH]
    return orjson.dumps({"error": {"code": error.code, "message": message}})


def sort_payload(
    payload: Octets,
    algorithm: Algorithm = Algorithm.AUTO,
    *,
    checkpoint: Checkpoint | None = None,
) -> bytes:
    """Return the JSON array in `payload`, of numbers or of strings, sorted ascending.

    Numbers are compared by value, strings by code point. Equal elements keep their order, and
    each number stays the integer or the float that it was spelled as.

    Args:
        payload: UTF-8 without a byte order mark.
        algorithm: How; it changes the time it takes, never the result.
        checkpoint: Called now and then by gnome sort; what it raises ends the job.

    Raises:
        SortError: The payload is not JSON, or not an array that can be sorted.
    """
    try:
        reply = sort_quickly(payload, algorithm, checkpoint=checkpoint)
        if reply is None:
            values = _read_exactly(payload)
            reply = _write_exactly(_sort_exactly(values, algorithm, checkpoint))
        return reply
    except RecursionError:
        raise SortError(ErrorCode.NOT_SORTABLE, "the JSON is nested too deeply") from None
    except MemoryError:
        raise SortError(ErrorCode.TOO_LARGE, "the list needs more memory than there is") from None


def sort_quickly(
    payload: Octets, algorithm: Algorithm, *, checkpoint: Checkpoint | None = None
) -> bytes | None:
    """Do what `sort_payload` does, or return None for a payload that the exact reader has to judge.

    Either is quick: the exact reader takes three times as long and more.
    """
    if algorithm is Algorithm.VECTOR or (
        algorithm is Algorithm.AUTO and len(payload) >= VECTOR_MIN_BYTES
    ):
        reply = _sort_vector(payload)
        if reply is not None:
            return reply
    values = _read_quickly(payload)
    if values is None:
        return None
    _sort_values(values, algorithm, checkpoint)
    return orjson.dumps(values)


def gnome_sort(values: list[Any], checkpoint: Checkpoint | None = None) -> None:
    """Sort `values` in place as a garden gnome sorts flower pots: swap, and step back.

    Stable. About n²/2 steps for a random list (H. Sarbazi-Azad's "stupid sort", 2000).
    """
    size = len(values)
    position = 1
    while position < size:
        for _ in range(GNOME_STEPS):
            if position == 0 or not values[position] < values[position - 1]:
                position += 1
                if position >= size:
                    return
            else:
                values[position - 1], values[position] = values[position], values[position - 1]
                position -= 1
        if checkpoint is not None:
            checkpoint()


def load_vector_path() -> None:
    """Import and touch what the vector path needs, so that no job waits for that."""
    sort_payload(b"[2,1]", Algorithm.VECTOR)
    sort_payload(b"[2.5,1.5]", Algorithm.VECTOR)


def _sort_values(values: list[Any], algorithm: Algorithm, checkpoint: Checkpoint | None) -> None:
    if algorithm is Algorithm.GNOME:
        gnome_sort(values, checkpoint)
    else:
        values.sort()


def _sort_exactly(
    values: list[Any], algorithm: Algorithm, checkpoint: Checkpoint | None
) -> list[Any]:
    """Return what `_read_exactly` has read, sorted without comparing a Decimal with a float."""
    if Decimal not in map(type, values):
        _sort_values(values, algorithm, checkpoint)
        return values
    below: list[Any] = []
    between: list[Any] = []
    above: list[Any] = []
    for value in values:
        if type(value) is not Decimal:
            between.append(value)
        elif value.is_signed():
            below.append(value)
        else:
            above.append(value)
    for part in (below, between, above):
        _sort_values(part, algorithm, checkpoint)
    return below + between + above


def _read_quickly(payload: Octets) -> list[Any] | None:
    """Return the elements of the array in `payload`, or None if orjson may not do it justice."""
    try:
        values = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    kinds = _check_sortable(values)
    if float in kinds and (max(values) >= 2**64 or min(values) <= -(2**63)):
        return None  # one of those floats may have been an integer
    return cast("list[Any]", values)


def _read_exactly(payload: Octets) -> list[Any]:
    """Return the elements of the array in `payload`: ints, floats and Decimals, or strings.

    Nothing is rounded. It has the speed of the standard library.
    """
    try:
        values = json.loads(
            str(payload, "utf-8"),  # given bytes, json would also try UTF-16 and UTF-32
            parse_int=lambda text: int(text) if len(text) <= INT_CHARACTERS else Decimal(text),
            parse_float=_read_float,
            parse_constant=_refuse_constant,
        )
    except json.JSONDecodeError as error:
        raise SortError(ErrorCode.NOT_JSON, str(error)) from None
    except UnicodeDecodeError as error:
        message = f"not UTF-8: {error.reason} at byte {error.start}"
        raise SortError(ErrorCode.NOT_JSON, message) from None
    _check_sortable(values)
    return cast("list[Any]", values)


def _read_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise SortError(ErrorCode.NOT_SORTABLE, "a number is beyond the range of a double")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise SortError(ErrorCode.NOT_JSON, f"{name} is not JSON")


def _check_sortable(values: object) -> set[type]:
    """Return the types in `values`, having made sure that it is a list of one kind.

    Exact types are compared: bool is a subclass of int.
    """
    if type(values) is not list:
        raise SortError(ErrorCode.NOT_SORTABLE, f"expected an array, not {KINDS[type(values)]}")
    kinds = set(map(type, values))
    if not (kinds <= NUMBERS or kinds == {str}):
        found = " and ".join(sorted({KINDS[kind] for kind in kinds}))
        message = f"expected only numbers or only strings, found {found}"
        raise SortError(ErrorCode.NOT_SORTABLE, message)
    return kinds


def _write_exactly(values: list[Any]) -> bytes:
    """Return what `_read_exactly` has read as JSON in UTF-8 without spaces."""
    low, high = -(2**63), 2**64  # what orjson writes; other integers are spelled out for it
    if values and type(values[0]) is not str:
        return orjson.dumps(
            [
                number
                if (kind := type(number)) is float or (kind is int and low <= number < high)
                else orjson.Fragment(str(number))
                for number in values
            ]
        )
    try:
        return orjson.dumps(values)
    except orjson.JSONEncodeError:
        # Lone surrogates have no UTF-8: they, and only they, become escapes again.
        text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "backslashreplace")


def _sort_vector(payload: Octets) -> bytes | None:
    """Do what `sort_payload` does, or return None for a payload that does not fit.

    simdjson's `as_buffer` flattens nested arrays and its parser skips a byte order mark, so both
    are looked for here. Its errors are no verdict: the exact reader gives that.
    """
    import numpy as np
    from simdjson import Array, Parser

    if not payload or payload[0] == 0xEF:
        return None
    octets = np.frombuffer(payload, dtype=np.uint8)
    if np.count_nonzero(octets == ord("[")) != 1:
        return None
    try:
        # A fresh parser each time: keeping one would save 9 ms of 27 on a million integers, and
        # hold some ten times the largest payload for ever.
        array = Parser().parse(payload)
        if not isinstance(array, Array):
            return None
        try:
            integers = np.frombuffer(array.as_buffer(of_type="i"), dtype=np.int64)
        except (TypeError, ValueError):
            floats = np.frombuffer(array.as_buffer(of_type="d"), dtype=np.float64)
            size = len(floats)
            # A number with a fraction was spelled as a float. Where some are whole, each must
            # have a point; there are lists of floats that fail both, but no other list passes.
            if (
                np.count_nonzero(floats != np.trunc(floats)) != size
                and np.count_nonzero(octets == ord(".")) != size
            ):
                return None
            # Two zeros are equal and spelled differently: only they need a stable sort.
            zeros = floats[floats == 0]
            floats.sort(kind="stable" if np.signbit(zeros).any() else None)
            return orjson.dumps(floats, option=orjson.OPT_SERIALIZE_NUMPY)
    except (TypeError, ValueError, RuntimeError):
        return None
    integers.sort()
    return orjson.dumps(integers, option=orjson.OPT_SERIALIZE_NUMPY)
