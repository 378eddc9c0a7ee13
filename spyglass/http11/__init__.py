"""HTTP/1.1 by RFC 9110 and RFC 9112, pure: bytes in, requests out; a response in, bytes
out. No sockets, no clocks.
"""
