"""`python -m clinvoker`."""

import sys

from clinvoker.cli import main

sys.exit(main())
