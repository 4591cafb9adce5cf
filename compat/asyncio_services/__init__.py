"""The services on today's asyncio, file by file beside `trio_services`."""
