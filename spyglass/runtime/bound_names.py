"""Names of the standard library that a worker needs for each request.

What a compiled module (compiled_engine.py) imports it looks up in a dict, each time. A
Final of another compiled module is a variable of C, and costs a hundred instructions
less.
"""

from __future__ import annotations

import io
import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

BytesIO: Final = io.BytesIO
EPOLLIN: Final = select.EPOLLIN
read: Final = os.read
readv: Final = os.readv
write: Final = os.write
