"""A deterministic TCP server and its client: what the server sends depends on the request alone.

A request is one line; the connection serves one after the other until the client closes it.

    GET n seed    n bytes of the seed's content
    PUT n         the client sends n bytes; the answer is their SHA-256 in hexadecimal and a newline
    SINK n        the client sends n bytes, which are thrown away unseen; the answer is n and a newline
    TURNS         every byte from now on is sent back
"""
