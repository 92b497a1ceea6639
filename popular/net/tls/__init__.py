"""TLS: contexts, streams that do not block, the handshake on a wire."""
