"""A socket in place of the Master's, which says anything to one client."""

import contextlib
import socket
import threading


@contextlib.contextmanager
def answering(path, said):
    """Listen at `path`; send `said` (bytes) to the first client and close."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer():
            sock, _ = listener.accept()
            with contextlib.suppress(OSError), sock:
                sock.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        yield
        thread.join()
