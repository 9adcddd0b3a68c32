"""Changes of the configuration at run time: the difference, the request, and the transaction that carries it out."""
