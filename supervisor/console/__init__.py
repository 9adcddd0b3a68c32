"""The page for operators: a running supervisor and its journal in a browser, and what operators do about breaks.

The laws of this room: it makes no decision of its own (what needs a person, who may approve, what a book was: the
command line uses the same modules); it shows how old its data is; without signing in nobody learns anything; no text of
a broker, of a journal or of a person is ever markup.
"""
