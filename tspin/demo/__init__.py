"""The embedded default: a small base model and word problems, all made from a seed."""
