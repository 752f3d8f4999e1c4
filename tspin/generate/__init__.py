"""One response a prompt: resumable, in shards, the same for the same seed."""
