"""The tabs of the page, one a file: a function that builds it."""
