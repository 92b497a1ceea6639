"""SMTP after POP: whoever has just fetched mail may send some, from the same address, for a while."""
