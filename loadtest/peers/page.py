"""Where the tables of comparisons stand in the README."""

import pathlib


def write(readme, what, text):
    """Puts a table between the marks of its comparison."""
    page = pathlib.Path(readme)
    before, after = f"<!-- {what} -->\n", f"<!-- end of {what} -->"
    old = page.read_text()
    head, rest = old.split(before, 1)
    page.write_text(head + before + text + "\n" + after + rest.split(after, 1)[1])


def spread(values, median, form):
    """A median with its least and its most."""
    return f"{median(values):{form}} ({min(values):{form}}–{max(values):{form}})"
