"""The study of the paper's claims at a scale that runs on one machine: docs/study.md."""
