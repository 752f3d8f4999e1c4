"""Responses to every prompt: resumable, in shards, the same for the same seed."""
