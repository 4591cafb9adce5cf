"""`python -m services_lab`."""

from services_lab.cli import main

if __name__ == "__main__":
    main()
