"""`python -m tspin` is the `tspin` command."""

from tspin.cli import main

if __name__ == "__main__":
    main()
