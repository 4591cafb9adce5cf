"""`python -m anyio_services serve [--backend trio|asyncio|uvloop]` and the options of `serve`."""

if __name__ == "__main__":
    # Imported here because AnyIO's worker processes execute this file too, under another name.
    from anyio_services.cli import main

    main()
