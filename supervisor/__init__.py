"""Who runs the actors: configuration, the supervisor, and the command line (``python -m supervisor --help``)."""
