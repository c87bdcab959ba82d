"""Programs for the makers of Octavo; nothing here is installed."""
