"""What is valid in a settings file, but may not be what its author means.

`spyglass check`, `apply` and `doctor` say so; the server does not look.
"""

from __future__ import annotations

import re

from spyglass.config.setting_errors import place_in
from spyglass.config.settings import SETTINGS, Config


def misplaced(config: Config, text: str) -> list[str]:
    """Return a line for each variable of the app that has the name of a setting: what
    stands below [environment] sets a variable. `text` (str) is the file's content.
    """
    file = config.file or ""
    header = re.search(r"^[ \t]*\[[ \t]*environment[ \t]*\]", text, re.MULTILINE)
    # Lines above the table are emptied, so that the rest keep their numbers.
    below = "\n" * text[: header.end()].count("\n") + text[header.end() :] if header else text
    lines = []
    for name in config.environment:
        if name in SETTINGS:
            place = place_in(file, below, name)
            if place == file:
                place = place_in(file, text, "environment")
            where = "above [environment]" if header else "out of `environment`"
            lines.append(
                f"{place}: environment: {name} is only a variable of the app here; if the setting "
                f"is meant, move it {where}"
            )
    return lines


def open_ports(config: Config, text: str) -> list[str]:
    """Return a line for each bare port in `listen`: it is open on all addresses, which
    "address:port" shows and a number does not.
    """
    place = place_in(config.file or "", text, "listen")
    return [
        f"{place}: listen: port {address.port} is open to the network; "
        f'"127.0.0.1:{address.port}" for this machine only, "[::]:{address.port}" if you mean it'
        for address in config.listen
        if address.port and not address.host
    ]
