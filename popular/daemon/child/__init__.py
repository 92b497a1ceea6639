"""What the children of all programs share: accepting connections, the frame of a session, the warm-up."""
