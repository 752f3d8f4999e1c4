"""The evaluations of a run's policies: one after another, in its loop or in a process beside it."""
