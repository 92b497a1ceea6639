"""The log: a catalogue of messages and the writer of its lines (spec 5)."""
