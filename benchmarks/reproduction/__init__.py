"""The study of the papers' claims at a scale that runs on one machine: docs/reproduction.md."""
