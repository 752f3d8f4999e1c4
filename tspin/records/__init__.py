"""What stands in files: records, manifests, estimates and training logs."""
