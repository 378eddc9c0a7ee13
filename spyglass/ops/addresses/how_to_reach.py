"""Say how to reach an app: a URL to open in a browser, or a command where a browser
cannot.

Pure. `spyglass apply` and `lookout` end with it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from spyglass.config.settings import Config


def sentence(streams: Iterable[str], config: Config) -> str:
    """Return "open http://localhost:8001/" or "try curl --unix-socket ...", for all of
    these addresses: ports, "host:port", "[v6]:port" or paths.
    """
    opened, tried = [], []
    # A connection without the header of the PROXY protocol is closed.
    options = ["--haproxy-protocol"] if config.proxy_protocol else []
    for stream in streams:
        is_path = "/" in stream or not stream.rpartition(":")[2].isdecimal()
        url = f"http://{'localhost' if is_path else _host(stream)}{config.script_name}/"
        if is_path or options:
            tried.append([*options, *(["--unix-socket", stream] if is_path else []), url])
        else:
            opened.append(url)
    parts = [f"open {' and '.join(opened)}"] if opened else []
    return " or ".join([*parts, *map(_curl, tried)])


def _curl(arguments: list[str]) -> str:
    import shlex  # with `re`: a lookout on a port needs neither

    return f"try {shlex.join(['curl', *arguments])}"


def in_front(path: str) -> list[str]:
    """Return what web servers in front need to reach the unix socket at `path`."""
    return [f"nginx: proxy_pass http://unix:{path};", f"Caddy: reverse_proxy unix/{path}"]


def _host(stream: str) -> str:
    """Return an address with a host that a browser of this machine can open."""
    host, _, port = stream.rpartition(":")
    return f"localhost:{port}" if host in ("", "0.0.0.0", "[::]") else stream  # noqa: S104, nothing is bound
