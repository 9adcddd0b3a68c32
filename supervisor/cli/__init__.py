"""The command line, ``python -m supervisor``: :mod:`.main` names the commands, one module carries out each."""
