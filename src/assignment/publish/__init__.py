"""What only a maintainer runs: rendering the notebooks, web pages, and the README's tables."""
