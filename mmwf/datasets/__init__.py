class DataError(ValueError):
    """Data that a config cannot train or test on; the message says what is wrong and where."""
