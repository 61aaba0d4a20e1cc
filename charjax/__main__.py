"""`python -m charjax` is the command `charjax`."""

import sys

from charjax.cli import main

sys.exit(main())
