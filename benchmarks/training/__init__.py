"""What one training step costs, here and in TRL's DPOTrainer."""

import os

# Read when tqdm is imported. The figures are what is to be read.
os.environ.setdefault("TQDM_DISABLE", "1")
