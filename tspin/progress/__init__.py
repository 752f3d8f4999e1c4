"""Progress of long work: on a terminal, in lines of the log, in notes for whoever asks."""
