"""Settings: kinds of values, tables of rows, and the frozen Config that holds all of them."""
