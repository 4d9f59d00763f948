"""What users write: a flow as a YAML document, checked as far as it can be before anything runs."""
