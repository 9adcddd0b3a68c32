"""The command line, ``python -m supervisor``: :mod:`.main` names the commands; each has a module of its own."""
