"""Module paths that users of other servers know, as aliases of Octavo's own commands."""
