"""Settings: kinds of values, tables of rows, and the one frozen value of everything configured."""
