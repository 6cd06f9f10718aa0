"""The fault suite: what may go wrong around nfrl is made to go wrong, and nothing may be lost.

``python -m faults`` (or ``make faults``) works through the cases of every part, prints one table
and writes ``results/faults.json``. A part is a module that has ``cases``; a case is a function that
raises AssertionError where a promise is broken. SECURITY.md says what is promised.
"""
