"""``chained-models demo``: the same edits saved with and without a chain, and what became of them.

:mod:`.run` puts it together; :mod:`.server` and :mod:`.database` are what is written to, and what is counted from;
:mod:`.unchained` and :mod:`.chained` are the two ways of writing; :mod:`.tally` counts; :mod:`.report` prints.
"""
