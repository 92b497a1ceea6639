"""The version of POPular, read by every program, the packaging and the documents."""

VERSION = "2.0.0"
