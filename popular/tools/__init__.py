"""The command line tools; each is a module or a package."""
