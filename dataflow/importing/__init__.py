"""Documents of others as flows: nothing that they say is lost without a word."""
