"""pcontrol: sends control commands to a daemon."""
