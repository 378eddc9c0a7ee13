"""The app that is served when none is named: it says that Spyglass works, and what to do next."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

_PAGE = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Spyglass is awake</title>
<style>
:root { color-scheme: light dark }
body { font: 17px/1.55 system-ui, sans-serif; max-width: 38em; margin: 12vh auto; padding: 0 1.2em }
code { font-size: .95em; padding: .1em .3em; border-radius: .3em; background: #8882 }
</style>
<h1>Spyglass is awake</h1>
<p>Your visit started this server. Nobody had to keep it running: until you came, only its socket was there.</p>
<p>Leave it alone, and it goes back to sleep. Reload this page later, and it wakes again.</p>
<p>To see your own app here, name it: <code>spyglass lookout module:callable</code>, or <code>app = "module:callable"</code> in
<code>/etc/spyglass/NAME.toml</code> and <code>systemctl enable --now spyglass@NAME.socket</code>.</p>
</html>
"""


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """A WSGI app: one page, at the root."""
    if environ["PATH_INFO"] != "/":
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"There is only the welcome page here, at /\n"]
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        start_response("405 Method Not Allowed", [("Content-Type", "text/plain"), ("Allow", "GET, HEAD")])
        return [b"The welcome page can only be read\n"]
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(_PAGE)))])
    return [_PAGE]
