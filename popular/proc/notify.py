"""Telling a service manager how we are, by the protocol of sd_notify(3): small datagrams, no answer.

Used by masters.  Raises nothing: a manager that cannot be reached is no reason not to serve.
"""

import socket


class Notify:
    """The way to one service manager, or to none."""

    def __init__(self, address: str = "", speaks: bool = True) -> None:
        """Speak to the datagram socket `address`, as in NOTIFY_SOCKET; empty: to nobody."""
        self.address = address
        self.speaks = speaks    # of two masters, one does

    def tell(self, *facts: str) -> None:
        """Send facts such as `READY=1`."""
        if not self.address or not self.speaks:
            return
        name = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            try:
                sock.sendto("\n".join(facts).encode(), name)
            except OSError:    # gone, or does not listen
                pass
