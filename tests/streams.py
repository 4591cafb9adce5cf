"""Streams that behave as badly as peers do, and ways to use them."""

import trio
import trio.testing

from trio_services.connections import Stream

MemoryStream = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    """Return what the peer sends until it closes."""
    return b"".join([bytes(data) async for data in stream])


class OneByteAtATime(trio.abc.HalfCloseableStream):
    """Another stream, of which each receive returns a single byte."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return one byte, whatever is asked for."""
        return await self._stream.receive_some(1)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data` as it is."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait as the other stream does."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Close the sending side."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the other stream."""
        await self._stream.aclose()


class CancelAtStep(trio.abc.Instrument):
    """Cancels `scope` just before the task step with a given number: at any checkpoint there is."""

    def __init__(self, step: int) -> None:
        self.scope = trio.CancelScope()
        self._steps_left = step

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count one step of whatever task it is."""
        self._steps_left -= 1
        if self._steps_left == 0:
            self.scope.cancel()
