"""The version of POPular, used by every program, the packaging and the documents."""

VERSION = "2.0.0"
