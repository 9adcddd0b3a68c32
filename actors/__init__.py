"""What we believe, and who owns it: the book and its reconciliation (pure), and the actors around them."""
