"""How facts are shown: events as sentences, tables, prices, and the JSON contract. Imports no actor and no client."""
