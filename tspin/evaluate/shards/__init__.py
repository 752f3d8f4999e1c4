"""An evaluation in parts, over pods and over the GPUs of one, and the whole that they make."""
