"""What only a maintainer runs.

`rendering` executes the notebooks for good, `pages` makes web pages and PDFs of them, and `readme`
writes the README's tables from the records.
"""
