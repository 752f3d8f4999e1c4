"""What people read of a run: the HTML page, the summary and the model card."""
