"""``python -m fleek``."""

from fleek.cli import main

if __name__ == "__main__":
    main()
