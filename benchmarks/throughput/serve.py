"""Runs an app in one of the servers that have no command for it: serve.py SERVER
MODULE:CALLABLE PORT.
"""

import importlib
import sys

server, target, port = sys.argv[1:]
sys.path.insert(0, "")
module, _, name = target.partition(":")
app = getattr(importlib.import_module(module), name)
if server == "bjoern":
    import bjoern

    bjoern.run(app, "127.0.0.1", int(port))
elif server == "cheroot":
    from cheroot.wsgi import Server

    Server(("127.0.0.1", int(port)), app, numthreads=4, request_queue_size=1024).start()
elif server == "fastwsgi":
    import fastwsgi

    fastwsgi.run(app, "127.0.0.1", int(port))
