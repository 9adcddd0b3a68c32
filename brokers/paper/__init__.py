"""A venue of our own, embedded in the account's actor: for rehearsals with the code that trades for real."""
