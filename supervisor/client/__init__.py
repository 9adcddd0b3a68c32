"""How a program reaches a running supervisor: :mod:`.blocking`, :mod:`.aio`, and the processes behind them."""
