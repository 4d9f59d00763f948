"""Transport: how bytes and calls cross from one process to another."""
