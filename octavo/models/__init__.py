"""Models as data: a spec read from files, a table of weight names, and one forward for all of them."""
