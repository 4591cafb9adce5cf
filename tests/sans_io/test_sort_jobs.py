"""Sorting jobs: bytes in, bytes out, by every algorithm."""

import json
import math
import pickle
import subprocess
import sys
from decimal import Decimal, FloatOperation, localcontext
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_services.sans_io.sort_jobs import (
    GNOME_STEPS,
    MAX_GROWTH,
    MAX_MESSAGE_LENGTH,
    VECTOR_MIN_BYTES,
    Algorithm,
    ErrorCode,
    SortError,
    error_reply,
    gnome_sort,
    sort_payload,
)

every_algorithm = pytest.mark.parametrize("algorithm", Algorithm)

SORTED = {
    "empty": (b"[]", b"[]"),
    "spaces": (b" \t\r\n[ 2 ,\n1 ] ", b"[1,2]"),
    "integers": (b"[3,-1,2]", b"[-1,2,3]"),
    "minus zero is an integer like any other": (b"[0,-0,-1]", b"[-1,0,0]"),
    "ends of 64 bits": (
        b"[9223372036854775807,-9223372036854775808]",
        b"[-9223372036854775808,9223372036854775807]",
    ),
    "unsigned": (b"[18446744073709551615,5]", b"[5,18446744073709551615]"),
    "above 64 bits": (
        b"[18446744073709551617,18446744073709551616]",
        b"[18446744073709551616,18446744073709551617]",
    ),
    "below 64 bits": (
        b"[-9223372036854775809,-9223372036854775810]",
        b"[-9223372036854775810,-9223372036854775809]",
    ),
    "long integers among floats": (
        b"[1e300,1" + b"0" * 400 + b",18446744073709551617,-1.5]",
        b"[-1.5,18446744073709551617," + orjson.dumps(1e300) + b",1" + b"0" * 400 + b"]",
    ),
    "integers about as long as the longest double": (
        b"[1"
        + b"0" * 310
        + b",1.5,-1"
        + b"0" * 309
        + b",1"
        + b"0" * 309
        + b",-1"
        + b"0" * 308
        + b"]",
        b"[-1"
        + b"0" * 309
        + b",-1"
        + b"0" * 308
        + b",1.5,1"
        + b"0" * 309
        + b",1"
        + b"0" * 310
        + b"]",
    ),
    "more digits than int() takes": (
        b"[" + b"9" * 5000 + b",-" + b"9" * 5001 + b",1]",
        b"[-" + b"9" * 5001 + b",1," + b"9" * 5000 + b"]",
    ),
    "floats": (b"[2.5,-1.5,1e-7]", b"[-1.5,1e-7,2.5]"),
    "fractions without a point": (b"[25e-1,-15E-1]", b"[-1.5,2.5]"),
    "mixed numbers": (b"[2,1.5,1]", b"[1,1.5,2]"),
    "equal numbers keep order and spelling": (b"[1.0,1,0,1,1.0]", b"[0,1.0,1,1,1.0]"),
    "so do whole floats": (b"[1.0,1,2.0]", b"[1.0,1,2.0]"),
    "exact beyond 2**53": (
        b"[9007199254740993,9007199254740992.0]",
        b"[9007199254740992.0,9007199254740993]",
    ),
    "zeros of both signs": (b"[0.0,-0.0,0.0,-1.0]", b"[-1.0,0.0,-0.0,0.0]"),
    "strings": (b'["b","a","B",""]', b'["","B","a","b"]'),
    "strings by code point": (
        '["\U0001f600","\uffff","\u00e9"]'.encode(),
        '["\u00e9","\uffff","\U0001f600"]'.encode(),
    ),
    "escapes": (rb'["\u0062","\u0061\n","\ud83d\ude00"]', '["a\\n","b","\U0001f600"]'.encode()),
    "lone surrogates": (rb'["\ud800","b\udfff","\u00e9"]', '["b\\udfff","é","\\ud800"]'.encode()),
}

REFUSED = {
    "nothing": (b"", ErrorCode.NOT_JSON),
    "space": (b" ", ErrorCode.NOT_JSON),
    "unfinished": (b"[1,2", ErrorCode.NOT_JSON),
    "trailing comma": (b"[1,]", ErrorCode.NOT_JSON),
    "trailing data": (b"[1]]", ErrorCode.NOT_JSON),
    "trailing zero byte": (b"[1]\0", ErrorCode.NOT_JSON),
    "leading zero": (b"[01]", ErrorCode.NOT_JSON),
    "no digits after the point": (b"[1.]", ErrorCode.NOT_JSON),
    "not a number": (b"[NaN]", ErrorCode.NOT_JSON),
    "infinity": (b"[1.5,-Infinity]", ErrorCode.NOT_JSON),
    "byte order mark": (b"\xef\xbb\xbf[1]", ErrorCode.NOT_JSON),
    "UTF-16": ("[1]".encode("utf-16"), ErrorCode.NOT_JSON),
    "UTF-32 without mark": ("[1]".encode("utf-32-le"), ErrorCode.NOT_JSON),
    "not UTF-8": (b'["\xff"]', ErrorCode.NOT_JSON),
    "encoded surrogate": (b'["\xed\xa0\x80"]', ErrorCode.NOT_JSON),
    "control character": (b'["\n"]', ErrorCode.NOT_JSON),
    "number": (b"1", ErrorCode.NOT_SORTABLE),
    "string": (b'"a"', ErrorCode.NOT_SORTABLE),
    "null": (b"null", ErrorCode.NOT_SORTABLE),
    "object": (b'{"a":1}', ErrorCode.NOT_SORTABLE),
    "booleans": (b"[true,false]", ErrorCode.NOT_SORTABLE),
    "a boolean among numbers": (b"[1,true]", ErrorCode.NOT_SORTABLE),
    "null in a list": (b"[1,null]", ErrorCode.NOT_SORTABLE),
    "numbers and strings": (b'[1,"a"]', ErrorCode.NOT_SORTABLE),
    "nested": (b"[[1]]", ErrorCode.NOT_SORTABLE),
    "nested among numbers": (b"[3,[2,1]]", ErrorCode.NOT_SORTABLE),
    "objects": (b"[{}]", ErrorCode.NOT_SORTABLE),
    "too large a float": (b"[1e400]", ErrorCode.NOT_SORTABLE),
    "too small a float": (b"[-1.5,-1e400]", ErrorCode.NOT_SORTABLE),
    "deep": (b"[" * 500 + b"]" * 500, ErrorCode.NOT_SORTABLE),
    "deeper": (b"[" * 100_000 + b"]" * 100_000, ErrorCode.NOT_SORTABLE),
    "deeper, in objects": (b'[{"a":' * 100_000, ErrorCode.NOT_SORTABLE),
}


@every_algorithm
@pytest.mark.parametrize(("payload", "expected"), SORTED.values(), ids=SORTED)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_sorts(
    payload: bytes, expected: bytes, algorithm: Algorithm, kind: type[bytes | memoryview]
) -> None:
    """A list comes back sorted, spelled as it was, whatever holds its bytes."""
    assert sort_payload(kind(payload), algorithm) == expected


@every_algorithm
@pytest.mark.parametrize(("payload", "expected"), SORTED.values(), ids=SORTED)
def test_sorts_long_lists(payload: bytes, expected: bytes, algorithm: Algorithm) -> None:
    """AUTO gives the same for a list that is long enough for the vector path."""
    padding = b" " * VECTOR_MIN_BYTES
    assert sort_payload(payload + padding, algorithm) == expected


@every_algorithm
@pytest.mark.parametrize(("payload", "code"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("padding", [b"", b" " * VECTOR_MIN_BYTES], ids=["short", "long"])
def test_refuses(payload: bytes, code: ErrorCode, algorithm: Algorithm, padding: bytes) -> None:
    """What is not a sortable list is refused, with the right code and one short line."""
    with pytest.raises(SortError) as caught:
        sort_payload(payload + padding, algorithm)
    assert caught.value.code == code
    reply = error_reply(caught.value)
    assert json.loads(reply)["error"]["code"] == code
    assert b"\n" not in reply
    assert len(reply) < 300


@pytest.mark.parametrize(
    ("payload", "fits"),
    [
        (b"[3,1,2]", True),
        (b"[0.5,0.25]", True),
        (b"[2.0,0.25]", True),
        (b"[2.0,1.0]", True),
        (b"[18446744073709551615]", False),
        (b"[0.5,1]", False),
        (b'["b","a"]', False),
    ],
)
def test_vector_path_takes_only_what_it_can_return_exactly(
    payload: bytes, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flat lists of 64-bit integers or of floats take the vector path, and no others."""
    general = []
    loads = orjson.loads

    def spy(data: bytes) -> Any:
        general.append(data)
        return loads(data)

    monkeypatch.setattr("trio_services.sans_io.sort_jobs.orjson.loads", spy)
    sort_payload(payload, Algorithm.VECTOR)
    assert (not general) == fits


numbers = st.one_of(
    st.integers(),
    st.integers(min_value=-3, max_value=3),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.sampled_from([0.0, -0.0, 1.0, 2.0**53, 2.0**63, -(2.0**63), 2.0**64]),
    st.sampled_from([2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64]),
    st.sampled_from([10**308, 10**309, 10**310 - 1, 10**310, 10**311, sys.float_info.max]),
    st.sampled_from([-(10**308), -(10**309), -(10**310), -(10**311), -sys.float_info.max]),
    st.floats(allow_nan=False, allow_infinity=False),
)
homogeneous = st.one_of(
    st.lists(st.integers(min_value=-(2**63), max_value=2**63 - 1)),
    st.lists(st.floats(allow_nan=False, allow_infinity=False)),
    st.lists(st.text(st.characters(exclude_categories=()))),
)


def described(values: list[Any]) -> list[tuple[type, str]]:
    """Return what must survive a round trip of each value: its type and its digits."""
    return [(type(value), repr(value)) for value in values]


@every_algorithm
@given(values=st.one_of(st.lists(numbers), homogeneous))
def test_sorts_like_sorted(algorithm: Algorithm, values: list[Any]) -> None:
    """Any list of numbers, or of strings, sorts like sorted(), equal elements and all."""
    reply = sort_payload(json.dumps(values).encode(), algorithm)
    assert described(json.loads(reply)) == described(sorted(values))


@given(values=st.one_of(st.lists(numbers), homogeneous))
def test_every_algorithm_gives_the_same_bytes(values: list[Any]) -> None:
    """The algorithm changes the time it takes and not one byte of the result."""
    payload = json.dumps(values).encode()
    assert len({sort_payload(payload, algorithm) for algorithm in Algorithm}) == 1


@pytest.mark.parametrize("algorithm", [Algorithm.TIMSORT, Algorithm.VECTOR])
@pytest.mark.parametrize("digits", ["0", "1", "-9", "0.1", "9.5", "123", "7.123456789012345678"])
def test_results_grow_by_a_bounded_factor(digits: str, algorithm: Algorithm) -> None:
    """However a number is spelled, its list grows no more than the server reckons with."""
    for exponent in range(-330, 308):
        for spelling in (f"{digits}e{exponent}", f"{digits}E+{exponent}".replace("+-", "-")):
            try:
                payload = f"[{','.join([spelling] * 20)}]".encode()
                assert len(sort_payload(payload, algorithm)) <= MAX_GROWTH * len(payload)
            except SortError:
                assert exponent > 300  # beyond the range of a double


@given(text=st.text(st.characters(exclude_categories=())), ascii_only=st.booleans())
def test_strings_grow_by_a_bounded_factor(text: str, ascii_only: bool) -> None:
    """Strings are never spelled much longer than they came, escapes and lone surrogates and all."""
    spelled = json.dumps([text], ensure_ascii=ascii_only)
    payload = spelled.encode("utf-8", "backslashreplace")
    assert len(sort_payload(payload)) <= MAX_GROWTH * len(payload)


@every_algorithm
@given(values=st.lists(numbers))
def test_no_decimal_is_compared_with_a_float(algorithm: Algorithm, values: list[Any]) -> None:
    """Comparing them is exact and costs up to 751 digits each time, which a client could choose."""
    with localcontext() as context:
        context.traps[FloatOperation] = True
        sort_payload(json.dumps([5e-324, 10**400, 0.5, 10**20, *values]).encode(), algorithm)


def outcome(payload: bytes, algorithm: Algorithm) -> bytes | ErrorCode:
    """Return the reply, or the code of the error; let nothing else pass."""
    try:
        return sort_payload(payload, algorithm)
    except SortError as error:
        return error.code


PIECES = (
    rb"""[ ] , 1 0 - . e E5 + " a \ \ud800 null true NaN { } : 1e400 1.5 -0.0 [1,2] "x" """.split()
)
PIECES += [b" ", b"\n", b"\0", b"\xff", b"\xc3\xa9", b"\xef\xbb\xbf", b"9" * 25]
json_soup = st.lists(st.sampled_from(PIECES)).map(b"".join)


@given(payload=st.one_of(st.binary(), json_soup, json_soup.map(lambda soup: b"[" + soup + b"]")))
def test_any_bytes_give_a_list_or_an_error(payload: bytes) -> None:
    """Whatever the bytes, every algorithm agrees on the list or on the error."""
    outcomes = {outcome(payload, algorithm) for algorithm in Algorithm}
    assert len(outcomes) == 1


@given(text=st.from_regex(rb"\A\[(-?(0|[1-9]\d{0,25})(\.\d{1,3})?([eE][+-]?\d{1,3})?,?){1,6}\]\Z"))
def test_any_spelling_of_numbers_is_read_alike(text: bytes) -> None:
    """The readers agree on what a number is, on its value and on its kind."""
    outcomes = {outcome(text, algorithm) for algorithm in Algorithm}
    assert len(outcomes) == 1


@given(payload=st.text(st.characters(exclude_categories=["Cs"])).map(str.encode))
def test_errors_hold_nothing_of_the_payload(payload: bytes) -> None:
    """A hostile payload neither breaks nor lengthens the line that refuses it."""
    with pytest.raises(SortError) as caught:
        sort_payload(b'["' + b"x" * 1000 + payload.replace(b'"', b"") + b"\n")
    assert "xxx" not in caught.value.message


def test_error_reply_is_json_of_bounded_length() -> None:
    """Any message fits an error reply."""
    reply = error_reply(SortError(ErrorCode.BUSY, 'said "no"\n' * 1000))
    error = json.loads(reply)["error"]
    assert error["code"] == "busy"
    assert len(error["message"]) == MAX_MESSAGE_LENGTH
    assert b"\n" not in reply


def test_errors_can_be_pickled() -> None:
    """An error crosses to another process whole, as pools of processes need it."""
    error = pickle.loads(pickle.dumps(SortError(ErrorCode.TIMEOUT, "too slow")))
    assert (error.code, error.message) == (ErrorCode.TIMEOUT, "too slow")
    assert str(error) == "timeout: too slow"


def test_memory_running_out_is_an_error_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that does not fit into memory is too large, not a crash."""

    def no_memory(data: bytes) -> Any:
        raise MemoryError

    monkeypatch.setattr("trio_services.sans_io.sort_jobs.orjson.loads", no_memory)
    assert outcome(b"[1]", Algorithm.TIMSORT) == ErrorCode.TOO_LARGE


def test_gnome_sort_is_stable() -> None:
    """Equal elements stay in order."""
    values = [Decimal(1), 1, 1.0, 0.0, 0, Decimal(0)]
    expected = described(sorted(values))
    gnome_sort(values)
    assert described(values) == expected


def test_gnome_sort_asks_now_and_then_whether_to_go_on() -> None:
    """The checkpoint is called every so many steps, and what it raises ends the job."""
    values = list(range(1000, 0, -1))
    calls = 0

    def checkpoint() -> None:
        nonlocal calls
        calls += 1

    gnome_sort(values, checkpoint)
    assert all(a <= b for a, b in pairwise(values))
    assert calls == math.floor((1000 * 999 + 999) / GNOME_STEPS)

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        sort_payload(json.dumps(values[::-1]).encode(), Algorithm.GNOME, checkpoint=stop)


def test_importing_it_is_cheap() -> None:
    """The server, which sorts short lists itself, never loads numpy or simdjson for that."""
    program = (
        "import sys; from trio_services.sans_io.sort_jobs import sort_payload;"
        f"sort_payload(b'[2,1]'); sort_payload(b'[' + b'1,' * {VECTOR_MIN_BYTES // 2 - 2} + b'1]');"
        "sys.exit('numpy' in sys.modules or 'simdjson' in sys.modules)"
    )
    path = {"PYTHONPATH": ":".join(sys.path)}
    assert subprocess.run([sys.executable, "-c", program], env=path, check=False).returncode == 0
