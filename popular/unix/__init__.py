"""What a daemon needs of Unix, pid file, rights, signals, descriptors, title, load, service manager, walls."""
