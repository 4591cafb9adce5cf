"""Payloads: bytes that arrive, in memory or in a shared file."""

import gc
import mmap
import os
import sys
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_services.sans_io.payload import CLOSE_AT_ONCE, SHARE_ABOVE, Payload, replace_contents

LIMIT = 100
"""Where the payloads of these tests move to a shared file."""


def open_files() -> int:
    """Return how many descriptors this process has open."""
    gc.collect()  # what other tests left to be closed
    return len(os.listdir("/dev/fd"))


@given(pieces=st.lists(st.binary(max_size=70)))
def test_gives_back_what_was_appended(pieces: list[bytes]) -> None:
    """However the bytes arrive, and wherever they are kept, they come back in order."""
    whole = b"".join(pieces)
    with Payload(len(whole), share_above=LIMIT) as payload:
        for piece in pieces:
            assert not payload.complete or not piece
            payload.append(piece)
        assert payload.complete
        assert payload.received == len(whole)
        assert payload.view() == whole
        assert (payload.fileno() is not None) == (len(whole) > LIMIT)


def test_announcing_costs_nothing() -> None:
    """A client that announces a lot and sends nothing takes neither memory nor a file."""
    with Payload(2**62) as payload:
        before = open_files()
        payload.append(b"x" * 10)
        assert sum(sys.getsizeof(part) for part in (payload, payload.view().obj)) < 500
        assert open_files() == before
        assert payload.fileno() is None
        assert not payload.complete


def test_moves_to_a_file_by_what_came_not_by_what_was_announced() -> None:
    """A payload stays in memory until more than the limit is really there."""
    with Payload(2**40) as payload:
        payload.append(b"x" * SHARE_ABOVE)
        assert payload.fileno() is None
        payload.append(b"y")
        assert payload.fileno() is not None
        assert payload.view() == b"x" * SHARE_ABOVE + b"y"


@pytest.mark.parametrize("share_above", [0, 100])
def test_refuses_more_than_was_announced(share_above: int) -> None:
    """Bytes beyond the announced size are an error, and are not kept."""
    with Payload(3, share_above=share_above) as payload:
        payload.append(b"ab")
        with pytest.raises(ValueError, match="announced 3 bytes"):
            payload.append(b"cd")
        assert bytes(payload.view()) == b"ab"


def test_empty() -> None:
    """A payload of no bytes is complete at once, and has an empty view."""
    with Payload(0) as payload:
        assert payload.complete
        assert bytes(payload.view()) == b""


@pytest.mark.parametrize("result", [b"x" * 50, b"x" * 300, b"x" * 3 * mmap.PAGESIZE])
def test_shows_what_replaced_its_contents(result: bytes) -> None:
    """A result that was written over the shared file is seen whole, shorter or longer."""
    with Payload(200, share_above=LIMIT) as payload:
        payload.append(b"y" * 200)
        before = payload.view()
        fd = payload.fileno()
        assert fd is not None
        replace_contents(fd, result)
        assert payload.view(len(result)) == result
        assert len(before) == 200  # still mapped: the file never shrinks
        assert before[:50] == result[:50]


@pytest.mark.parametrize("memfd", [True, False], ids=["memfd", "temporary file"])
def test_file_has_no_name_and_is_not_inherited(
    memfd: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No directory lists the shared file, and no child process inherits it."""
    if memfd and not hasattr(os, "memfd_create"):
        pytest.skip("memfd_create is Linux only")
    if not memfd:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Payload(200, share_above=LIMIT) as payload:
        payload.append(b"y" * 200)
        fd = payload.fileno()
        assert fd is not None
        assert os.fstat(fd).st_nlink == 0
        assert not os.get_inheritable(fd)
        assert list(tmp_path.iterdir()) == []
        assert payload.view() == b"y" * 200


def test_closing_leaves_nothing_open() -> None:
    """After close, twice or in a with block, no descriptor and no mapping is left."""
    before = open_files()
    with Payload(200, share_above=LIMIT) as payload:
        payload.append(b"y" * 200)
        view = payload.view()
        assert open_files() > before
        payload.close()
    assert payload.fileno() is None
    assert open_files() == before
    with pytest.raises(ValueError, match="released"):
        view.tobytes()


def test_closing_takes_time_when_there_is_much_to_give_back() -> None:
    """A payload is slow to close by the length of its file, which a worker may have made longer."""
    with Payload(CLOSE_AT_ONCE * 2) as payload:
        assert not payload.slow_to_close
        payload.append(bytes(CLOSE_AT_ONCE))
        assert not payload.slow_to_close
        fd = payload.fileno()
        assert fd is not None
        replace_contents(fd, bytes(CLOSE_AT_ONCE + 1))
        assert payload.slow_to_close
    assert not payload.slow_to_close


def test_closing_in_a_thread_leaves_nothing_open() -> None:
    """A payload that is in a thread's hands goes as it does elsewhere."""
    before = open_files()
    payload = Payload(200, share_above=LIMIT)
    payload.append(b"y" * 200)
    view = payload.view()
    thread = Thread(target=payload.close)
    thread.start()
    thread.join()
    assert open_files() == before
    with pytest.raises(ValueError, match="released"):
        view.tobytes()


def test_closing_spares_who_still_computes() -> None:
    """A view that numpy still uses goes when numpy is done, and close does not wait for that."""
    before = open_files()
    payload = Payload(200, share_above=LIMIT)
    payload.append(b"y" * 200)
    array = np.frombuffer(payload.view(), dtype=np.uint8)
    payload.close()
    assert array.sum() == 200 * ord("y")
    del array
    assert open_files() == before
