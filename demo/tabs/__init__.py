"""The tabs of the page. Each file has a function that builds one tab."""
