"""The log: a peer cannot flood it, and a crash can be read."""

import logging

import pytest
import trio
import trio.testing

from trio_services.logs import REPORT_INTERVAL, ErrorLog, run_reporting
from trio_services.settings import SettingsError


async def test_one_report_an_interval(
    mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The first error is logged with its traceback; the others of the interval are counted."""
    errors = ErrorLog("sort connection", trio.current_time)
    for number in range(100):
        errors.report(ValueError(f"error {number}"))
    mock_clock.jump(REPORT_INTERVAL / 2)
    errors.report(ValueError("still too soon"))
    assert len(caplog.records) == 1
    assert "unexpected error in sort connection" in caplog.text
    assert "ValueError: error 0" in caplog.text

    mock_clock.jump(REPORT_INTERVAL / 2)
    errors.report(KeyError("later"))
    assert len(caplog.records) == 2
    assert caplog.messages[1] == (
        "unexpected error in sort connection (100 more since the last report)"
    )
    mock_clock.jump(REPORT_INTERVAL)
    errors.report(KeyError("alone"))
    assert caplog.messages[2] == "unexpected error in sort connection"
    assert errors.count == 103


async def test_origins_do_not_silence_each_other(caplog: pytest.LogCaptureFixture) -> None:
    """Each origin has an interval of its own."""
    ErrorLog("here", trio.current_time).report(ValueError("a"))
    ErrorLog("there", trio.current_time).report(ValueError("b"))
    assert caplog.messages == ["unexpected error in here", "unexpected error in there"]


async def wrapped(*errors: Exception) -> None:
    """Raise `errors` as services do: in the group of a group of a nursery."""
    await trio.lowlevel.checkpoint()
    raise ExceptionGroup("outer", [ExceptionGroup("inner", errors)])


async def finish() -> None:
    """Return without an error."""
    await trio.lowlevel.checkpoint()


def test_status_0_for_what_returns(caplog: pytest.LogCaptureFixture) -> None:
    """A program that ends by itself has status 0 and nothing to report."""
    assert run_reporting(trio.run, finish) == 0
    assert not caplog.records


def test_status_1_and_a_readable_report_for_a_crash(caplog: pytest.LogCaptureFixture) -> None:
    """Each error at the ends of the group has a line; the whole group follows."""
    assert run_reporting(trio.run, wrapped, ValueError("broken"), OSError("lost")) == 1
    assert caplog.messages[:2] == [
        "a service failed: ValueError: broken",
        "a service failed: OSError: lost",
    ]
    assert all(record.levelno == logging.CRITICAL for record in caplog.records)
    assert "Traceback" in caplog.text


def test_status_2_and_a_line_for_a_setting(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """A setting that turns out to be wrong while running is one line, without a traceback."""
    assert run_reporting(trio.run, wrapped, SettingsError("cannot write the ready file")) == 2
    assert capsys.readouterr().err == "trio-services: cannot write the ready file\n"
    assert not caplog.records


def test_a_crash_beside_a_setting_is_still_a_crash(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are told, and the status is that of the worse."""
    assert run_reporting(trio.run, wrapped, SettingsError("wrong"), ValueError("broken")) == 1
    assert "wrong" in capsys.readouterr().err
    assert "a service failed: ValueError: broken" in caplog.messages


def test_ctrl_c_passes() -> None:
    """What is no error of a service is not reported as one."""

    async def interrupted() -> None:
        await trio.lowlevel.checkpoint()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_reporting(trio.run, interrupted)
