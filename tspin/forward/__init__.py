"""From batches to log-probabilities, without the logits of a whole batch."""
