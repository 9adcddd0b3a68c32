"""Changes of the configuration at run time: what differs, what is asked for, and the transaction that makes it so."""
