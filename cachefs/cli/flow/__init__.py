"""``cachefs flow``: check, plan, run and watch flows; a module for each part, the commands in one group."""
