"""What an MLflow tracking server is told of a run: from the files of its steps, beside the work."""
