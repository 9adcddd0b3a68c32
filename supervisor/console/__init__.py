"""The page for operators: what a running supervisor and its journal tell, in a browser, and what people do about it.

The laws of this room: it decides nothing of its own (what needs a person, who may approve, what a book was is decided
where the command line asks for it, too); it shows how old what it shows is; whoever is not signed in learns nothing;
nothing of a broker's, of a journal's or of a person's text is ever markup.
"""
