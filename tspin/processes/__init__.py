"""Several processes that share one piece of work: started, waited for, and ended together."""
