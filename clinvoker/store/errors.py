"""What can be wrong with the store as a whole, told in one line for people."""


class StoreError(Exception):
    """The state directory or its database cannot be used; waiting does not help."""
