"""`python -m trio_services` is the command `trio-services`."""

from trio_services.cli import main

if __name__ == "__main__":
    main()
