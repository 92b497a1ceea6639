"""Coverage-guided fuzzing of every parser that meets foreign octets: `make fuzz T=60` (docs/fuzzing.md)."""
