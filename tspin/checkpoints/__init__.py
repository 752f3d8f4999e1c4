"""What a training continues from after a kill: whole checkpoints, their state, their copies."""
