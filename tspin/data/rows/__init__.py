"""Raw rows of a file, one at a time, each with its place."""
