"""Small servers that are neither a service nor an original: each isolates one idea to be measured.

`plain_trio` is Trio without the technique of `trio_services`, `drained_asyncio` is the technique
without Trio, and `asyncio_4k` is asyncio with another size of buffer. All answer by the
same `Responder`, so beside `trio` and `asyncio` they tell what the technique brings, what the
library brings, and what the allocator does.
"""
