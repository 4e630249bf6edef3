"""``python -m sjg``."""

from sjg.cli import main

if __name__ == "__main__":
    main()
