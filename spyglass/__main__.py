"""`python -m spyglass` is `spyglass`."""

import gc
import os
import sys

if __name__ == "__main__":
    if not sys.flags.safe_path and sys.path[0] == os.getcwd():
        # The current directory may be an app's: only the process of the app may import
        # from it, and each import of ours would look there first.
        del sys.path[0]

    if sys.flags.no_site:
        # As in packaging/bin/spyglass.
        sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

    # What an import makes is no garbage, and to look for some takes a tenth of a wake.
    # cli.main(), or the Master when its parts are there, enables it again.
    gc.disable()

    from spyglass.runtime import module_finder

    module_finder.install()

    from spyglass.cli import main

    sys.exit(main())
