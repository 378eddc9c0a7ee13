"""`python -m spyglass` is `spyglass`."""

import os
import sys

if __name__ == "__main__":
    if not sys.flags.safe_path and sys.path[0] == os.getcwd():
        # The current directory may be an app's: only the process of the app may import
        # from it, and each import of ours would look there first.
        del sys.path[0]

    from spyglass.runtime import module_finder

    module_finder.install()

    from spyglass.cli import main

    sys.exit(main())
