import os
from urllib.parse import parse_qsl

import deeds

VERSION = "0"  # each deploy has another
HERE = os.path.dirname(os.path.abspath(__file__))
TEXT = ("Content-Type", "text/plain")


def app(environ, start_response):
    what = environ["PATH_INFO"]
    query = dict(parse_qsl(environ["QUERY_STRING"]))
    visit = query.get("visit", "-")
    if what == "/stream":
        start_response("200 OK", [TEXT])
        return deeds.pieces(visit, VERSION, query, environ["wsgi.input"])
    if what == "/file":
        deeds.seen(visit)
        start_response("200 OK", [TEXT, ("X-Visit", visit)])
        return environ["wsgi.file_wrapper"](open(os.path.join(HERE, "static"), "rb"))
    if what == "/health":
        start_response("200 OK", [TEXT])
        return [b"well\n"]
    if what == "/harm":
        deeds.harm(visit, query)
    elif what != "/echo":
        start_response("404 Not Found", [TEXT])
        return [b"no such page\n"]
    body = deeds.echo(visit, VERSION, query, environ["wsgi.input"])
    start_response("200 OK", [TEXT, ("Content-Length", str(len(body)))])
    return [body] if environ["REQUEST_METHOD"] != "HEAD" else []
