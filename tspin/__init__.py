"""T-SPIN: triplet-based self-play fine-tuning of language models (arXiv 2601.08198)."""

__version__ = "0.1.0"

__all__ = ["__version__"]
