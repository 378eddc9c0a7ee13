"""`python -m spyglass` is `spyglass`."""

import sys

from spyglass.cli import main

sys.exit(main())
