"""The configuration: what may stand in it, read from YAML with every mistake named. Import :mod:`.models` and
:mod:`.loader`."""
