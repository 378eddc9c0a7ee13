"""HTTP/1.1 (RFC 9110, RFC 9112), pure: bytes in, requests out; a response in, bytes
out. No sockets, no clocks, no configuration.
"""
