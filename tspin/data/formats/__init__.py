"""The formats that other tools write, and how a row becomes a conversation."""
