"""Run the command line: ``python -m egoflow``."""

import sys

from egoflow.cli import main

if __name__ == "__main__":
    sys.exit(main())
