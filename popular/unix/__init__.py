"""What a daemon needs of Unix, a module each: pid file, rights, signals, descriptors, title, load, service manager."""
