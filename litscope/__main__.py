"""`python -m litscope` is `litscope`."""

import sys

from litscope.cli import main

if __name__ == "__main__":
    sys.exit(main())
