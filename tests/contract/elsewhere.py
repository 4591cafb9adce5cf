"""What the services on asyncio and on AnyIO do instead of what the Trio services promise."""

from services_lab.variants import ANY_PORT

from tests.contract.promises import Subject
from tests.contract.sort_promises import list_for_the_dead


async def refuses_copies(subject: Subject) -> None:
    """--processes 2 is refused in one line, with status 2."""
    ended = await subject.run("--dns", ANY_PORT, "--no-sort", "--processes", "2")
    assert ended.status == 2
    assert ended.err.count("\n") == 1
    assert "processes" in ended.err


async def worker_failed(subject: Subject) -> None:
    """A worker that is killed before it has read its list fails it: `worker-failed`."""
    async with list_for_the_dead(subject) as reply:
        assert b'"worker-failed"' in reply
