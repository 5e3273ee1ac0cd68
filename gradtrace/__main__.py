"""``python -m gradtrace``."""

from gradtrace.cli import main

if __name__ == "__main__":
    main()
