"""`python -m spyglass` is `spyglass`."""

import os
import sys

if __name__ == "__main__":
    if not sys.flags.safe_path and sys.path[0] == os.getcwd():
        del sys.path[
            0
            # As the command does: an app's directory is for the app's process, and each
            # import of ours would look there
        ]

    from spyglass.cli import main

    sys.exit(main())
