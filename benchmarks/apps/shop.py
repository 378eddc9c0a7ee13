"""What throughput is measured with: pages of several kinds in one app."""

import time

HELLO = [("Content-Type", "text/plain"), ("Content-Length", "6")]
LARGE = b"x" * (64 << 10)


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/":
        start_response("200 OK", list(HELLO))
        return [b"Hello\n"]
    if path == "/large":
        start_response(
            "200 OK",
            [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(LARGE)))],
        )
        return [LARGE]
    if path == "/echo":
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        start_response(
            "200 OK",
            [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(body)))],
        )
        return [body]
    if path == "/sleep":
        time.sleep(0.05)
    elif path == "/work":
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass
    start_response("200 OK", list(HELLO))
    return [b"Slow!\n"]
