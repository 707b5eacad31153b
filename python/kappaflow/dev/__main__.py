"""`python -m kappaflow.dev up|down|status|logs`, the same as `kappaflow dev ...`."""

import sys

from kappaflow.dev.cli import main

if __name__ == "__main__":
    sys.exit(main())
