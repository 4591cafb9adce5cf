"""The services on AnyIO (over Trio, asyncio or uvloop), file by file beside `trio_services`."""
