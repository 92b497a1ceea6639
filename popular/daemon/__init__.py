"""The skeleton of all daemons: starter, master, accepting connections, the frame of a session."""
