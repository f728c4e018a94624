"""The training loop and what it needs; nothing here names a method."""
