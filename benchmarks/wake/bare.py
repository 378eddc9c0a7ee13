"""The measure of a wake: an interpreter, one answer, nothing else. Takes the listening
socket from descriptor 3.

bare.py              answers bare.py MODULE       imports an app first, and says in its
answer how many milliseconds that took
"""

import sys
import time

begin = time.monotonic()
if len(sys.argv) > 1:
    sys.path.insert(0, ".")
    __import__(sys.argv[1])
took = (time.monotonic() - begin) * 1000

import socket  # noqa: E402, what the app has imported by now is not imported twice

connection, _ = socket.socket(fileno=3).accept()
connection.recv(4096)
body = b"%.3f\n" % took
connection.sendall(
    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body
)
