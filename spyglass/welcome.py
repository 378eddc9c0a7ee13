"""The app that is served when no other is configured. It says that Spyglass works, how
it was woken, when it will sleep, and what to do next.

It is one page, without a script and with nothing to fetch: a page that asked the server
for its state would keep it awake. So the page counts down in CSS, from the moment when
it was loaded. If there is no other request, the server is asleep when the count ends: a
browser keeps its connection until keepalive_timeout, and one that it has opened in
advance until header_timeout. Then idle_timeout begins.
"""

from __future__ import annotations

import os
import sys
import time

import spyglass
from spyglass import api

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from spyglass.wake_record import Wake

_FIELDS = [
    ("Content-Type", "text/html; charset=utf-8"),
    ("Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
]
# What a browser may do with this page if foreign content ever gets into it: nothing.
_POLICY = "default-src 'none'; style-src 'nonce-%s'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """A WSGI app: one page, at the root."""
    path = environ["PATH_INFO"]
    # The page contains its icon; a browser that asks for it anyway should see no error.
    if path == "/favicon.ico":
        start_response("204 No Content", [("Cache-Control", "max-age=86400")])
        return []
    if path != "/":
        return _text(start_response, "404 Not Found", "There is only the welcome page here, at /\n")
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        return _text(
            start_response,
            "405 Method Not Allowed",
            "The welcome page can only be read\n",
            ("Allow", "GET, HEAD"),
        )
    nonce = os.urandom(12).hex()
    body = page(nonce).encode()
    start_response(
        "200 OK",
        [
            *_FIELDS,
            ("Content-Security-Policy", _POLICY % nonce),
            ("Content-Length", str(len(body))),
        ],
    )
    return [body]


def _text(
    start_response: Callable[..., Any], status: str, text: str, *fields: tuple[str, str]
) -> list[bytes]:
    start_response(
        status,
        [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(text))),
            *fields,
        ],
    )
    return [text.encode()]


def page(nonce: str) -> str:
    """Return the page as of now. `nonce` (str) allows its style sheet (Content Security
    Policy Level 3, 2.3).
    """
    wake = spyglass.last_wake()
    stay = _stay()
    values = {
        "NONCE": nonce,
        "STAY": f"{stay:g}",
        "STEPS": str(max(1, round(stay))),
        "SKY": "sinks" if stay else "stays",
        "STATE": _either("awake", "asleep"),
        "STORY": _story(wake),
        "TILES": "".join(
            f"<div><dt>{name}</dt><dd>{value}</dd></div>\n" for name, value in _tiles(wake, stay)
        ),
        "FACTS": "".join(
            f"<li>{name} <b>{_escaped(value)}</b></li>\n" for name, value in _facts(wake)
        ),
        "NEXT": _next(wake),
    }
    made = _PAGE
    for name, value in values.items():
        made = made.replace(f"@{name}@", value)
    return made


def _stay() -> float:
    """Return the seconds until the app is asleep without another request; 0: never."""
    if api.process.serves is None:
        return 0.0
    config = api.process.serves[1]
    return config.idle_timeout and config.idle_timeout + max(
        config.keepalive_timeout, config.header_timeout
    )


def _story(wake: Wake | None) -> str:
    if wake is None:
        return "This page is served by an app that has nothing else to say."
    if not wake.listener:
        return f"It was started at {_clock(wake.at)} with nobody waiting, and could answer {_duration(wake.seconds)} later."
    return (
        f"Until {_clock(wake.at)} only its socket was there. Then somebody connected to <code>{_escaped(wake.listener)}</code>, "
        f"and {_duration(wake.seconds)} later it could answer."
    )


def _tiles(wake: Wake | None, stay: float) -> list[tuple[str, str]]:
    tiles = []
    if wake is not None:
        tiles += [("Woken by", "a visitor" if wake.listener else "nobody"), ("At", _clock(wake.at))]
        tiles += [("Ready after", _duration(wake.seconds))]
    if stay:
        count = (
            f'<span class="count" aria-hidden="true"></span><span class="said">{stay:g} s</span>'
        )
        tiles.append(
            (_either("Left alone, asleep in", "Left alone, by now"), _either(count, "asleep"))
        )
    else:
        tiles.append(("Asleep in", "never"))
    return tiles


def _either(now: str, then: str) -> str:
    """Return what is shown while the app is awake, and `then` once it is asleep."""
    return f'<span class="either"><span class="now">{now}</span><span class="then" aria-hidden="true">{then}</span></span>'


def _facts(wake: Wake | None) -> list[tuple[str, str]]:
    name = wake.name if wake is not None else ""
    version = ".".join(map(str, sys.version_info[:3]))
    return [
        ("App", name or "the default"),
        ("Worker", str(os.getpid())),
        ("Python", version),
        ("Spyglass", spyglass.__version__),
    ]


def _next(wake: Wake | None) -> str:
    if wake is not None and wake.name:
        name = _escaped(wake.name)
        return (
            f"<p>Name it in <code>/etc/spyglass/{name}.toml</code>:</p>\n"
            f'<pre>app = "module:callable"\ndirectory = "/srv/{name}"</pre>\n'
            f"<p>and have it loaded, or wait until this one sleeps:</p>\n<pre><i>#</i> spyglass reload {name}</pre>"
        )
    return (
        "<p>Where systemd is, one file and one command:</p>\n"
        "<pre><i>#</i> spyglass new blog /srv/blog --app blog:app --listen 8001\n<i>#</i> spyglass apply</pre>\n"
        "<p>Anywhere else:</p>\n<pre><i>$</i> spyglass lookout blog:app --bind 127.0.0.1:8001</pre>"
    )


def _clock(at: float) -> str:
    moment = time.gmtime(at)
    return f'<time datetime="{time.strftime("%Y-%m-%dT%H:%M:%SZ", moment)}">{time.strftime("%H:%M:%S", moment)} UTC</time>'


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _escaped(text: str) -> str:
    return (
        text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    )


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Spyglass is awake</title>
<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='7'
 fill='%23e8833a'/%3E%3C/svg%3E">
<style nonce="@NONCE@">
@property --left { syntax: "<integer>"; inherits: true; initial-value: @STEPS@ }
@property --min { syntax: "<integer>"; inherits: true; initial-value: 0 }
:root { --paper: #faf6ee; --ink: #1e2632; --soft: #5a6271; --line: #e2d9c8; --card: #fffdf9; --mark: #a8480f; --stay: @STAY@s }
body { margin: 0; background: var(--paper); color: var(--ink); font: 17px/1.6 system-ui, sans-serif }
main { max-width: 45rem; margin: 0 auto; padding: 6vh 1.2rem 3rem }
svg { display: block; width: 100%; border-radius: 1rem }
h1 { font-size: clamp(2rem, 6vw, 2.9rem); line-height: 1.1; letter-spacing: -.02em; margin: 1.6rem 0 .6rem }
h2 { font-size: 1.05rem; margin: 2.4rem 0 .4rem }
p { margin: .5rem 0; color: var(--soft) }
.story { font-size: 1.12rem }
code, pre, .count { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .9em }
code { color: var(--ink); white-space: nowrap }
pre { margin: .5rem 0; padding: .8rem 1rem; overflow-x: auto; border: 1px solid var(--line); border-radius: .6rem; background: var(--card) }
pre i { color: var(--mark); font-style: normal; user-select: none }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(9rem, 100%), 1fr)); gap: 1px; margin: 1.6rem 0 1rem;
 overflow: hidden; border: 1px solid var(--line); border-radius: .8rem; background: var(--line) }
dl div { padding: .8rem 1rem; background: var(--card) }
dt { font-size: .8rem; color: var(--soft) }
dd { margin: 0; font-size: 1.15rem; font-weight: 600; font-variant-numeric: tabular-nums; white-space: nowrap }
ul { display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; margin: 0; padding: 0; list-style: none; font-size: .88rem; color: var(--soft) }
b { color: var(--ink); font-weight: 600 }
.said { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
.count { --min: calc(var(--left) / 60 - .5); counter-reset: m var(--min) s calc(var(--left) - 60 * var(--min)); font-size: 1em;
 color: var(--mark) }
.count::before { content: counter(m) ":" counter(s, decimal-leading-zero) }
.now { animation: count var(--stay) steps(@STEPS@) both, go 0s var(--stay) both }
.either { display: inline-block; position: relative; white-space: nowrap }
.then { position: absolute; left: 0; animation: come 0s var(--stay) both }
.stays ~ * .then { display: none }
.stays ~ * .now { animation: none }
.sun { fill: #fff1bf }
.sinks .sun { animation: sink var(--stay) linear both }
.sinks .night { animation: fade var(--stay) ease-in both }
.stays .night { opacity: 0 }
@keyframes count { from { --left: @STEPS@ } to { --left: 0 } }
@keyframes go { to { visibility: hidden } }
@keyframes come { from { visibility: hidden } }
@keyframes sink { 40% { fill: #ffe3a0 } 90% { fill: #ee7440 } to { transform: translate(46px, 158px); fill: #c9513a } }
@keyframes fade { from { opacity: 0 } 60% { opacity: .25 } }
@media (prefers-color-scheme: dark) {
:root { --paper: #10151f; --ink: #edf0f5; --soft: #a3adbd; --line: #2a3446; --card: #171e2b; --mark: #f0a35e }
svg { filter: brightness(.86) }
}
@media (prefers-reduced-motion: reduce) { .sinks .sun, .sinks .night { animation: none } .sinks .night { opacity: 0 } }
</style>
</head>
<body>
<main>
<svg class="@SKY@" viewBox="0 0 720 220" role="img" aria-label="A spyglass on the shore, and the sun above the sea">
<defs>
<linearGradient id="a" x2="0" y2="1"><stop stop-color="#7db7de"/><stop offset=".75" stop-color="#fbd9a5"/></linearGradient>
<linearGradient id="b" x2="0" y2="1"><stop stop-color="#0d1530"/><stop offset=".75" stop-color="#3b3a62"/></linearGradient>
<linearGradient id="c" x2="0" y2="1"><stop stop-color="#e9b98a"/>
<stop offset=".3" stop-color="#4f8fb0"/><stop offset="1" stop-color="#2b6285"/></linearGradient>
</defs>
<path fill="url(#a)" d="M0 0h720v160H0z"/>
<g class="night"><path fill="url(#b)" d="M0 0h720v160H0z"/>
<path stroke="#fff" stroke-width="2.4" stroke-linecap="round"
 d="M90 40h0M168 22h0M236 66h0M318 34h0M404 84h0M452 28h0M540 58h0M602 24h0M664 78h0M696 36h0M352 108h0M588 110h0"/>
<path fill="#f4ecd2" d="M628 44a26 26 0 1 0 22 39a22 22 0 0 1-22-39z"/></g>
<g class="sun"><circle cx="470" cy="62" r="58" opacity=".3"/><circle cx="470" cy="62" r="30"/></g>
<path fill="url(#c)" d="M0 160h720v60H0z"/>
<path stroke="#fff" stroke-opacity=".35" stroke-width="2" stroke-linecap="round"
 d="M430 172h96M452 184h70M404 196h120M470 208h64M210 178h40M300 200h56M610 182h48"/>
<path class="night" fill="#0d1530" fill-opacity=".72" d="M0 160h720v60H0z"/>
<path fill="#24313a" d="M0 220v-46c60-16 120-14 176 4 40 13 66 30 104 42z"/>
<g fill="none" stroke="#24313a" stroke-width="5" stroke-linecap="round"><path d="M136 118l-24 62M136 118l2 62M136 118l30 66"/></g>
<g fill="#3a2a22" transform="rotate(-16 136 112)"><path d="M84 106h44v14H84z"/>
<path fill="#c98a3c" d="M126 103h40v20h-40z"/><path d="M164 100h44v26h-44z"/><path fill="#c98a3c" d="M206 98h7v30h-7z"/></g>
</svg>
<h1>Spyglass is @STATE@</h1>
<p class="story">@STORY@ Leave it alone and it goes back to sleep; your next visit wakes it again.</p>
<dl>
@TILES@</dl>
<ul>
@FACTS@</ul>
<h2>Your own app here</h2>
@NEXT@
</main>
</body>
</html>
"""
