"""What both halves stand on.

`settings` reads what a reader may choose. `download` gets files and `files` writes them, whole or
not at all. `runs` keeps finished experiments and finds them by what was asked. `tables` and
`figures` hold what a page shows, `notebooks` executes one.
"""
