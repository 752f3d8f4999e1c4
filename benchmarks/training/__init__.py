"""What one training step costs, here and in TRL's DPOTrainer."""
