"""Values to bytes and back, strictly. No JAX, no sockets, no clock.

Whatever bytes a decoder here is given, it returns a value or raises `RemoteProtocolError`.
"""
