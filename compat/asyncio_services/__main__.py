"""`python -m asyncio_services serve [--loop asyncio|uvloop]` and the options of `serve`."""

from asyncio_services.cli import main

if __name__ == "__main__":
    main()
