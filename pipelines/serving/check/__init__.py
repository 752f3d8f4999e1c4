"""Whether what is served answers held-out prompts as the champion was measured."""
