"""The export step: a model as a folder that stands by itself, on the Hub, or as an image."""
