"""The domain: values and state machines. No I/O, no clock, no randomness, no logging."""
