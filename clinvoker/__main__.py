"""`python -m clinvoker`."""

import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until everything is imported, Ctrl-C ends the process at once: Python 3.11 has crashed when interrupted in the middle.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from clinvoker.cli import main

if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
    signal.signal(signal.SIGINT, signal.default_int_handler)

sys.exit(main())
