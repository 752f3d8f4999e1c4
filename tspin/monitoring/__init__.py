"""What Prometheus is told of a command while it works: an endpoint over the notes of its steps."""
