"""What a pipeline needs of a cluster, and whether it is there."""
