"""From a record to a batch: prompts, token ids, examples, packed rows."""
