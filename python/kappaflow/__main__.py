"""`python -m kappaflow` is `kappaflow`."""

import sys

from kappaflow.cli import main

sys.exit(main())
