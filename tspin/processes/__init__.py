"""Processes that work for one command: started, waited for, and ended together."""
