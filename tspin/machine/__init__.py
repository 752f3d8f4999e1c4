"""What is installed here, what this machine has, and whether a run fits it."""
