"""INI files: reading, writing, and saving the changes of commands."""
