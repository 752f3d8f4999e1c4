"""Speed and memory, measured beside the peers."""
