"""The worker: a process that accepts, reads, calls the app and answers."""
