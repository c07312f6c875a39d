"""What only a maintainer runs.

`rendering` executes the notebooks for good, `pages` makes web pages and PDFs of them, `readme`
writes what the READMEs say of results and of speed, and `figures` draws the README's picture.
"""
